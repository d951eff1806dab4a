//! All metrics against scipy, scikit-learn and krippendorff.
