//! Adapters as PEFT reads them.
