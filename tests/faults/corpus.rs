//! Every seed of `fuzz/corpus` through the function that its target fuzzes.
