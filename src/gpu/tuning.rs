//! Which kernels an adapter gets, and how they are cut.

use std::collections::BTreeSet;

use super::{AdapterFacts, Class, GpuError};

/// A kernel that suits some adapters better than the plain one, which computes the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// `matmul_subgroup.wgsl`: loads shared by broadcast, for CPU adapters with subgroups of 8.
    MatmulSubgroup,
    /// `attention_subgroup.wgsl`, for the same adapters.
    AttentionSubgroup,
    /// `attention_tiled.wgsl`: tiles in workgroup memory, for GPUs.
    AttentionTiled,
    /// `cached_attention_split.wgsl`: a long cache read by many workgroups, for GPUs.
    CachedAttentionSplit,
}

impl Variant {
    pub const ALL: [Variant; 4] =
        [Variant::MatmulSubgroup, Variant::AttentionSubgroup, Variant::AttentionTiled, Variant::CachedAttentionSplit];

    /// The name of its shader, and in [`Kernels`].
    pub fn name(self) -> &'static str {
        match self {
            Variant::MatmulSubgroup => "matmul_subgroup",
            Variant::AttentionSubgroup => "attention_subgroup",
            Variant::AttentionTiled => "attention_tiled",
            Variant::CachedAttentionSplit => "cached_attention_split",
        }
    }

    fn needs_subgroups_of_8(self) -> bool {
        matches!(self, Variant::MatmulSubgroup | Variant::AttentionSubgroup)
    }

    /// Why an adapter with subgroups of this size, if of any, does without it; `None`: it suits.
    pub(super) fn unsuited(self, class: Class, subgroup: Option<u32>) -> Option<&'static str> {
        match (self.needs_subgroups_of_8(), class) {
            (true, _) if subgroup != Some(8) => Some("needs subgroups of 8"),
            (true, Class::Software) => None,
            (true, _) => Some("made for CPU adapters"),
            (false, Class::Software) => Some("made for GPUs"),
            // What tries them, `doctor`, is not part of what a page downloads.
            (false, Class::Web) => Some("not tried in browsers"),
            (false, Class::Integrated | Class::Discrete) => None,
        }
    }
}

/// Which optional kernels are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// Those that suit the adapter's class.
    #[default]
    Suited,
    /// These and no others; none: the plain kernels.
    Only(BTreeSet<Variant>),
}

impl std::str::FromStr for Kernels {
    type Err = String;

    /// `auto`, `plain`, or names of variants with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "auto" => Ok(Kernels::Suited),
            "plain" => Ok(Kernels::Only(BTreeSet::new())),
            names => names
                .split(',')
                .map(|name| {
                    let known = Variant::ALL.map(Variant::name).join(", ");
                    let found = Variant::ALL.into_iter().find(|v| v.name() == name.trim());
                    found.ok_or_else(|| format!("expected auto, plain, or some of {known}; found `{}`", name.trim()))
                })
                .collect::<Result<_, _>>()
                .map(Kernels::Only),
        }
    }
}

/// Choices made once for an adapter, by class. They are part of what a checkpoint records: another choice may round
/// differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Threads that share one row in row-wise kernels (norms, softmax, sampling). 1: a thread a row, no barriers.
    pub lanes: u32,
    /// Threads of a matmul workgroup along columns and rows; each makes an 8 x 8 tile.
    pub matmul_group: [u32; 2],
    /// Optional kernels, each used where the sizes allow.
    pub variants: BTreeSet<Variant>,
    /// Positions of a cache that one workgroup of `cached_attention_split.wgsl` reads; shorter caches are not split.
    pub cache_part: u32,
    /// Decoding steps after which a rollout looks at what was drawn: waiting for a CPU adapter costs nothing, and chains that
    /// have ended stop costing earlier.
    pub steps_a_look: u32,
    /// Floating point operations after which a step is split into another submission.
    pub flops_per_submit: u64,
}

impl Tuning {
    /// The choice for an adapter; `subgroup` is the size of its subgroups, where the device has that feature.
    ///
    /// # Errors
    /// A variant is wanted that the device cannot run.
    pub(super) fn of(facts: &AdapterFacts, subgroup: Option<u32>, kernels: &Kernels) -> Result<Self, GpuError> {
        let variants = match kernels {
            Kernels::Suited => Variant::ALL.into_iter().filter(|v| v.unsuited(facts.class, subgroup).is_none()).collect(),
            Kernels::Only(wanted) => {
                if let Some(variant) = wanted.iter().find(|v| v.needs_subgroups_of_8() && subgroup != Some(8)) {
                    return Err(GpuError::NoSubgroups { variant: variant.name(), adapter: facts.to_string() });
                }
                wanted.clone()
            }
        };
        Ok(match facts.class {
            // A CPU runs a workgroup on one core, eight invocations at a time: barriers cost, small groups balance.
            Class::Software => Tuning {
                lanes: 1,
                matmul_group: [8, 1],
                variants,
                cache_part: 256,
                steps_a_look: 1,
                flops_per_submit: 20_000_000_000,
            },
            Class::Integrated | Class::Web | Class::Discrete => Tuning {
                lanes: 64,
                matmul_group: [8, 8],
                variants,
                cache_part: 256,
                steps_a_look: 8,
                flops_per_submit: if facts.class == Class::Discrete { 2_000_000_000_000 } else { 200_000_000_000 },
            },
        })
    }

    pub fn has(&self, variant: Variant) -> bool {
        self.variants.contains(&variant)
    }

    /// With this variant as the only one.
    pub fn only(&self, variant: Variant) -> Self {
        Tuning { variants: [variant].into(), ..self.clone() }
    }

    /// Without this variant.
    pub fn without(mut self, variant: Variant) -> Self {
        self.variants.remove(&variant);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_named() {
        assert_eq!("auto".parse(), Ok(Kernels::Suited));
        assert_eq!("plain".parse(), Ok(Kernels::Only(BTreeSet::new())));
        let two = Kernels::Only([Variant::AttentionTiled, Variant::MatmulSubgroup].into());
        assert_eq!("matmul_subgroup, attention_tiled".parse(), Ok(two));
        assert!(
            "matmul_subgroups"
                .parse::<Kernels>()
                .is_err_and(|e| e.contains("matmul_subgroup,") && e.contains("found `matmul_subgroups`"))
        );
    }

    #[test]
    fn every_variant_suits_some_adapter() {
        let suits = |v: Variant| {
            [(Class::Software, Some(8)), (Class::Discrete, None)].into_iter().any(|(c, s)| v.unsuited(c, s).is_none())
        };
        assert!(Variant::ALL.into_iter().all(suits));
        assert_eq!(Variant::MatmulSubgroup.unsuited(Class::Discrete, Some(8)), Some("made for CPU adapters"));
        assert_eq!(Variant::AttentionTiled.unsuited(Class::Software, Some(8)), Some("made for GPUs"));
    }

    #[test]
    fn what_an_adapter_lacks_is_left_out_or_refused() {
        let facts = |class| AdapterFacts { name: "x".into(), backend: "Vulkan".into(), driver: String::new(), class };
        let of = |class, subgroup, kernels: &str| Tuning::of(&facts(class), subgroup, &kernels.parse().unwrap());
        assert!(of(Class::Software, Some(8), "auto").is_ok_and(|t| t.has(Variant::MatmulSubgroup)));
        for (class, subgroup) in [(Class::Software, None), (Class::Software, Some(4)), (Class::Web, None)] {
            assert!(of(class, subgroup, "auto").is_ok_and(|t| !t.has(Variant::MatmulSubgroup)));
            assert!(of(class, subgroup, "matmul_subgroup").is_err_and(|e| e.to_string().contains("subgroups of 8")));
        }
        assert!(of(Class::Discrete, Some(32), "plain").is_ok_and(|t| t.variants.is_empty()));
    }
}
