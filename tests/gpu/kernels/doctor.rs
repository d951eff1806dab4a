//! `jurist doctor` prints a line per operation, and a failed one for every kind of broken kernel.

use jurist::ops::rmsnorm::Norm;
use jurist::selftest::kernels::KernelChecker;
use jurist::selftest::{self, kernels::rmsnorm};

use crate::common::*;

#[test]
fn every_operation_has_a_line() {
    let report = pollster::block_on(selftest::kernels(&gpu())).unwrap_or_else(|e| panic!("{e}"));
    println!("{report}");
    assert!(report.passes(), "\n{report}");
    for operation in [
        "embedding",
        "embedding backward",
        "rows gather",
        "rows scatter",
        "rmsnorm",
        "rmsnorm backward",
        "rmsnorm per head",
        "rmsnorm per head backward",
        "matmul nt",
        "matmul nn",
        "matmul tn",
        "matmul nt q8",
        "matmul nn q8",
        "matmul nt q4",
        "matmul nn q4",
        "matmul nt bf16",
        "matmul nn bf16",
        "matmul nt f16",
        "matmul nn f16",
        "embedding q8",
        "embedding q4",
        "embedding bf16",
        "embedding f16",
        "matmul nt in chunks",
        "matmul nn in chunks",
        "matmul tn in chunks",
        "matmul nt q8 in chunks",
        "matmul nn q8 in chunks",
        "embedding in chunks",
        "embedding backward in chunks",
        "embedding q8 in chunks",
        "rope",
        "rope backward",
        "attention",
        "attention backward",
        "cached attention",
        "dropout",
        "swiglu",
        "swiglu backward",
        "loss head",
        "loss head backward",
        "gradient norm",
        "adamw",
        "adamw, bad gradient",
        "threefry",
        "greedy",
        "sample",
    ] {
        assert!(report.findings.iter().any(|f| f.group == operation), "no line for {operation}:\n{report}");
    }
}

/// The results of broken kernels, and the one line that reports them.
#[test]
fn broken_kernels_are_reported() {
    type Broken = fn(&mut KernelChecker);
    let broken: [(&str, Broken); 7] = [
        ("y, off by 1e-4", |b| b.compare_result("rope", "y, off by 1e-4", &[1.0001, 0.5], &[1.0, 0.5])),
        ("dx, off by 1e-3", |b| b.compare_gradient("rope", "dx, off by 1e-3", &[1.001, 0.5], &[1.0, 0.5])),
        ("y, nothing", |b| b.compare_result("rope", "y, nothing", &[UNTOUCHED; 2], &[1.0, 0.5])),
        ("y, NaN", |b| b.compare_result("rope", "y, NaN", &[f64::NAN, 0.5], &[1.0, 0.5])),
        ("written past the live rows", |b| b.compare_live_result("rope", "y", &[1.0, 0.0], &[1.0])),
        ("another copy", |b| b.compare_exact("rope", "another copy", &[1.0 + 1e-12], &[1.0])),
        ("another token", |b| b.check("rope", "another token", false)),
    ];
    for (worst, broken) in broken {
        let mut checker = KernelChecker::new(&gpu());
        checker.compare_result("rope", "right", &[1.0], &[1.0]);
        broken(&mut checker);
        checker.compare_result("rope", "right again", &[1.0], &[1.0]);
        assert!(!checker.report.passes(), "{worst} passes");
        assert!(checker.report.findings[0].worst.contains(worst), "{}", checker.report);
    }
}

/// A kernel with another epsilon than the reference: from the device to the verdict.
#[test]
fn a_wrong_constant_is_reported() {
    let mut checker = KernelChecker::new(&gpu());
    let norm = Norm::plain(20, 1e-5);
    run_check(rmsnorm::rmsnorm_against(&mut checker, 5, 5, norm, f64::from(norm.eps) + 0.01));
    for (direction, finding) in ["forward", "backward"].iter().zip(&checker.report.findings) {
        assert!(!finding.passes(), "{direction}:\n{}", checker.report);
    }
    assert_eq!(checker.report.findings.len(), 2);
}
