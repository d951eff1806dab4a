//! Which kernels an adapter gets, and how they are cut.

use std::collections::BTreeSet;

use super::{Abilities, AdapterFacts, Class, GpuError};

/// A kernel that suits some adapters better than the plain one, which computes the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// `matmul_subgroup.wgsl`: loads shared by broadcast, for CPU adapters with subgroups of 8.
    MatmulSubgroup,
    /// `matmul_cooperative.wgsl`: matrix units, f16 with sums in f32.
    MatmulCooperative,
    /// `attention_subgroup.wgsl`, for the same adapters.
    AttentionSubgroup,
    /// `attention_tiled.wgsl`: tiles in workgroup memory, for GPUs.
    AttentionTiled,
    /// `cached_attention_split.wgsl`: a long cache read by many workgroups, for GPUs.
    CachedAttentionSplit,
}

impl Variant {
    pub const ALL: [Variant; 5] = [
        Variant::MatmulSubgroup,
        Variant::MatmulCooperative,
        Variant::AttentionSubgroup,
        Variant::AttentionTiled,
        Variant::CachedAttentionSplit,
    ];

    /// The name of its shader, and in [`Kernels`].
    pub fn name(self) -> &'static str {
        match self {
            Variant::MatmulSubgroup => "matmul_subgroup",
            Variant::MatmulCooperative => "matmul_cooperative",
            Variant::AttentionSubgroup => "attention_subgroup",
            Variant::AttentionTiled => "attention_tiled",
            Variant::CachedAttentionSplit => "cached_attention_split",
        }
    }

    /// What an adapter with these abilities lacks to run it.
    fn lacks(self, has: Abilities) -> Option<&'static str> {
        match self {
            Variant::MatmulSubgroup | Variant::AttentionSubgroup => (has.subgroup != Some(8)).then_some("subgroups of 8"),
            Variant::MatmulCooperative => {
                has.matrix_unit.is_none().then_some("matrix units of f16 with sums in f32, and subgroups of one size up to 64")
            }
            Variant::AttentionTiled | Variant::CachedAttentionSplit => None,
        }
    }

    /// Whether an adapter with these abilities can run it.
    pub(super) fn runs(self, has: Abilities) -> bool {
        self.lacks(has).is_none()
    }

    /// Why an adapter with these abilities does without it unless it is asked for by name; `None`: it suits.
    pub(super) fn unsuited(self, class: Class, has: Abilities) -> Option<String> {
        if let Some(lack) = self.lacks(has) {
            return Some(format!("needs {lack}"));
        }
        let reason = match (self, class) {
            (Variant::MatmulSubgroup | Variant::AttentionSubgroup, Class::Software) => return None,
            (Variant::MatmulSubgroup | Variant::AttentionSubgroup, _) => "made for CPU adapters",
            (_, Class::Software) => "made for GPUs",
            // What tries them, `doctor`, is not part of what a page downloads.
            (_, Class::Web) => "not tried in browsers",
            (Variant::MatmulCooperative, _) => "not timed on any GPU yet; ask for it with --kernels auto,matmul_cooperative",
            (Variant::AttentionTiled | Variant::CachedAttentionSplit, Class::Integrated | Class::Discrete) => return None,
        };
        Some(reason.into())
    }
}

/// Which optional kernels are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// Those that suit the adapter's class, and these.
    Suited(BTreeSet<Variant>),
    /// These and no others; none: the plain kernels.
    Only(BTreeSet<Variant>),
}

impl Default for Kernels {
    fn default() -> Self {
        Kernels::Suited(BTreeSet::new())
    }
}

impl Kernels {
    /// Those that are asked for by name.
    pub(super) fn named(&self) -> &BTreeSet<Variant> {
        match self {
            Kernels::Suited(named) | Kernels::Only(named) => named,
        }
    }
}

impl std::str::FromStr for Kernels {
    type Err = String;

    /// `plain`, or names with commas between them: of variants, and `auto` for those that suit.
    fn from_str(text: &str) -> Result<Self, String> {
        let (mut suited, mut named) = (false, BTreeSet::new());
        for name in text.split(',').map(str::trim) {
            match Variant::ALL.into_iter().find(|v| v.name() == name) {
                Some(variant) => _ = named.insert(variant),
                None if name == "auto" => suited = true,
                None if name == "plain" && text.trim() == "plain" => {}
                None => {
                    let known = Variant::ALL.map(Variant::name).join(", ");
                    return Err(format!("expected auto, some of {known}, or plain alone; found `{name}`"));
                }
            }
        }
        Ok(if suited { Kernels::Suited(named) } else { Kernels::Only(named) })
    }
}

/// The matrix units of an adapter, as kernels use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixUnit {
    /// Rows and columns of the matrices that it multiplies.
    pub size: u32,
    /// Threads of a subgroup, which do so together.
    pub subgroup: u32,
}

/// Choices made once for an adapter, by class. They are part of what a checkpoint records: another choice may round
/// differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Threads that share one row in row-wise kernels (norms, softmax, sampling). 1: a thread a row, no barriers.
    pub threads_per_row: u32,
    /// Threads of a matmul workgroup along columns and rows; each makes an 8 x 8 tile.
    pub matmul_group: [u32; 2],
    /// Optional kernels, each used where the sizes allow.
    pub variants: BTreeSet<Variant>,
    /// For the kernels that need it.
    pub matrix_unit: Option<MatrixUnit>,
    /// Positions of a cache that one workgroup of `cached_attention_split.wgsl` reads; shorter caches are not split.
    pub cache_part: u32,
    /// Decoding steps after which a rollout looks at what was drawn: waiting for a CPU adapter costs nothing, and chains that
    /// have ended stop costing earlier.
    pub sync_interval: u32,
    /// Floating point operations after which a step is split into another submission.
    pub flops_per_submit: u64,
}

impl Tuning {
    /// The choice for an adapter with these abilities.
    ///
    /// # Errors
    /// A variant is wanted that the device cannot run.
    pub(super) fn of(facts: &AdapterFacts, has: Abilities, kernels: &Kernels) -> Result<Self, GpuError> {
        let mut variants = kernels.named().clone();
        if let Some((variant, needs)) = variants.iter().find_map(|v| Some((v.name(), v.lacks(has)?))) {
            return Err(GpuError::CannotRun { variant, needs, adapter: facts.to_string() });
        }
        if let Kernels::Suited(_) = kernels {
            variants.extend(Variant::ALL.into_iter().filter(|v| v.unsuited(facts.class, has).is_none()));
        }
        Ok(match facts.class {
            // A CPU runs a workgroup on one core, eight invocations at a time: barriers cost, small groups balance.
            Class::Software => Tuning {
                threads_per_row: 1,
                matmul_group: [8, 1],
                variants,
                matrix_unit: has.matrix_unit,
                cache_part: 256,
                sync_interval: 1,
                flops_per_submit: 20_000_000_000,
            },
            Class::Integrated | Class::Web | Class::Discrete => Tuning {
                threads_per_row: 64,
                matmul_group: [8, 8],
                variants,
                matrix_unit: has.matrix_unit,
                cache_part: 256,
                sync_interval: 8,
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

    fn abilities(subgroup: Option<u32>) -> Abilities {
        Abilities { subgroup, matrix_unit: None }
    }

    #[test]
    fn kernels_are_named() {
        assert_eq!("auto".parse(), Ok(Kernels::default()));
        assert_eq!("plain".parse(), Ok(Kernels::Only(BTreeSet::new())));
        let two: BTreeSet<Variant> = [Variant::AttentionTiled, Variant::MatmulSubgroup].into();
        assert_eq!("matmul_subgroup, attention_tiled".parse(), Ok(Kernels::Only(two.clone())));
        assert_eq!("matmul_subgroup,auto,attention_tiled".parse(), Ok(Kernels::Suited(two)));
        for (wrong, found) in [("matmul_subgroups", "`matmul_subgroups`"), ("plain,auto", "`plain`"), ("", "``")] {
            let parsed = wrong.parse::<Kernels>();
            assert!(parsed.is_err_and(|e| e.contains("matmul_subgroup,") && e.contains(found)), "{wrong}");
        }
    }

    #[test]
    fn every_variant_suits_some_adapter_or_is_asked_for() {
        let suits = |v: Variant| {
            [(Class::Software, Some(8)), (Class::Discrete, None)].into_iter().any(|(c, s)| v.unsuited(c, abilities(s)).is_none())
        };
        let unsuited: Vec<Variant> = Variant::ALL.into_iter().filter(|v| !suits(*v)).collect();
        assert_eq!(unsuited, [Variant::MatmulCooperative]);
        let why = |v: Variant, class, subgroup| v.unsuited(class, abilities(subgroup)).unwrap_or_default();
        assert_eq!(why(Variant::MatmulSubgroup, Class::Discrete, Some(8)), "made for CPU adapters");
        assert_eq!(why(Variant::AttentionTiled, Class::Software, Some(8)), "made for GPUs");
        assert!(why(Variant::MatmulCooperative, Class::Discrete, Some(32)).starts_with("needs matrix units"));
        let has = Abilities { subgroup: Some(32), matrix_unit: Some(MatrixUnit { size: 16, subgroup: 32 }) };
        let reason = Variant::MatmulCooperative.unsuited(Class::Discrete, has);
        assert!(reason.is_some_and(|r| r.contains("--kernels auto,matmul_cooperative")));
    }

    #[test]
    fn what_an_adapter_lacks_is_left_out_or_refused() {
        let facts = |class| AdapterFacts { name: "x".into(), backend: "Vulkan".into(), driver: String::new(), class };
        let of = |class, subgroup, kernels: &str| Tuning::of(&facts(class), abilities(subgroup), &kernels.parse().unwrap());
        assert!(of(Class::Software, Some(8), "auto").is_ok_and(|t| t.has(Variant::MatmulSubgroup)));
        for (class, subgroup) in [(Class::Software, None), (Class::Software, Some(4)), (Class::Web, None)] {
            assert!(of(class, subgroup, "auto").is_ok_and(|t| !t.has(Variant::MatmulSubgroup)));
            assert!(of(class, subgroup, "matmul_subgroup").is_err_and(|e| e.to_string().contains("subgroups of 8")));
        }
        assert!(of(Class::Discrete, Some(32), "auto,matmul_cooperative").is_err_and(|e| e.to_string().contains("matrix units")));
        assert!(of(Class::Discrete, Some(32), "plain").is_ok_and(|t| t.variants.is_empty()));
        let both = of(Class::Software, Some(8), "auto,attention_tiled").map(|t| t.variants);
        assert!(both.is_ok_and(|v| v.contains(&Variant::AttentionTiled) && v.contains(&Variant::MatmulSubgroup)));
    }
}
