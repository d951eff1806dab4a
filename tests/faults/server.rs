//! `jurist serve` towards slow, strange and hostile clients.
