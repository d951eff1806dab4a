//! Optional kernels are tried when a GPU is opened for work: right ones stay, broken ones are left out, by name.

use jurist::gpu::{Gpu, GpuOptions, Kernels, SHADERS, Variant};
use jurist::selftest::{self, Verdict, Work};

use crate::common::*;

/// Opens the tests' adapter with these variants, one of their texts changed.
fn opened(kernels: &[Variant], broken: Option<(&'static str, &str, &str)>) -> (Gpu, Vec<Verdict>) {
    let substitute = |(file, from, to): (&'static str, &str, &str)| {
        let (_, text) = SHADERS.iter().find(|(name, _)| *name == file).unwrap_or_else(|| panic!("no shader {file}"));
        assert!(text.contains(from), "{file} has no `{from}` to change");
        (file, text.replace(from, to))
    };
    let options = GpuOptions {
        adapter: Some(gpu().facts().to_string()),
        kernels: Kernels::Only(kernels.iter().copied().collect()),
        substitutes: broken.map(substitute).into_iter().collect(),
        ..GpuOptions::default()
    };
    pollster::block_on(selftest::open(&options, Work::Training)).unwrap_or_else(|e| panic!("{e}"))
}

/// The variants that this adapter can run at all.
fn possible() -> Vec<Variant> {
    Variant::ALL.into_iter().filter(|v| gpu().runs(*v)).collect()
}

#[test]
fn right_ones_stay() {
    for variant in possible() {
        let (gpu, verdicts) = opened(&[variant], None);
        assert_eq!(verdicts.len(), 1);
        assert!(verdicts[0].passes(), "{}", verdicts[0]);
        assert!(gpu.tuning().has(variant), "{}", verdicts[0]);
        assert!(verdicts[0].to_string().contains("is in use"), "{}", verdicts[0]);
    }
}

/// Each text computes something else, in the way back alone where it has one: nothing is noticed but by its figures.
#[test]
fn broken_ones_are_left_out() {
    let broken = [
        (Variant::MatmulSubgroup, "matmul_subgroup.wgsl", "[{{R}}], {{Q}}u) * u{{S}}", "[{{R}}], {{Q}}u) * u0", "matmul tn"),
        (
            Variant::MatmulCooperative,
            "matmul_cooperative.wgsl",
            "coopMultiplyAdd(al{{I}}, bh{{J}}",
            "coopMultiplyAdd(ah{{I}}, bh{{J}}",
            "matmul",
        ),
        (Variant::MatmulStaged, "matmul_staged.wgsl", "(k + min(i / QUADS, steps - 1u))", "(k + steps - 1u)", "matmul"),
        (
            Variant::AttentionSubgroup,
            "attention_subgroup.wgsl",
            "dk{{P}} += ds{{J}} *",
            "dk{{P}} += p{{J}} *",
            "attention backward",
        ),
        (Variant::AttentionTiled, "attention_tiled.wgsl", "* (dp.r{{I}} - delta{{I}})", "* dp.r{{I}}", "attention backward"),
        (
            Variant::CachedAttentionSplit,
            "cached_attention_split.wgsl",
            "denominator += rescale * stats[n].y",
            "denominator += stats[n].y",
            "cached attention",
        ),
    ];
    for (variant, file, from, to, check) in broken.into_iter().filter(|b| possible().contains(&b.0)) {
        // A right one beside it stays.
        let beside =
            if variant == Variant::CachedAttentionSplit { Variant::AttentionTiled } else { Variant::CachedAttentionSplit };
        let (gpu, verdicts) = opened(&[variant, beside], Some((file, from, to)));
        let verdict = verdicts.iter().find(|v| v.variant == variant).unwrap_or_else(|| panic!("no verdict for {file}"));
        println!("{verdict}");
        assert!(!verdict.passes() && !gpu.tuning().has(variant), "{verdict}");
        assert!(gpu.tuning().has(beside));
        let line = verdict.to_string();
        assert!(line.contains(variant.name()) && line.contains("switched off") && line.contains(check), "{line}");
        assert!(verdict.worst.deviation > 1e-3, "{line}");
    }
}

/// A text that the device refuses ends that device; the work goes on with another, without the variant.
#[test]
fn refused_ones_are_left_out() {
    let refused = ("attention_tiled.wgsl", "fn weighted_sum(", "fn weighted_sum((");
    let (gpu, verdicts) = opened(&[Variant::AttentionTiled, Variant::CachedAttentionSplit], Some(refused));
    gpu.check().unwrap_or_else(|e| panic!("the device is unusable: {e}"));
    let passes: Vec<_> = verdicts.iter().map(|v| (v.variant, v.passes())).collect();
    assert_eq!(passes, [(Variant::AttentionTiled, false), (Variant::CachedAttentionSplit, true)]);
    assert!(verdicts[0].to_string().contains("cannot run"), "{}", verdicts[0]);
    assert_eq!(gpu.tuning().variants, [Variant::CachedAttentionSplit].into());
}

/// `jurist doctor` tries the plain kernels, and says so; a start does not.
#[test]
fn plain_kernels_are_not_tried() {
    let (gpu, verdicts) = opened(&[], None);
    assert!(verdicts.is_empty() && gpu.tuning().variants.is_empty());
}
