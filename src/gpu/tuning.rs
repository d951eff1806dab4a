//! Which kernels an adapter uses, and their sizes.

use std::collections::BTreeSet;

use super::{Abilities, AdapterFacts, Class, GpuError};

/// An optional kernel that suits some adapters better than the plain kernel for the same operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// `matmul_subgroup.wgsl`: threads share loads by broadcast, for CPU adapters with subgroups of 4 or 8.
    MatmulSubgroup,
    /// `matmul_cooperative.wgsl`: matrix units that multiply in f16 and accumulate in f32.
    MatmulCooperative,
    /// `matmul_staged.wgsl`: tiles in workgroup memory, the next block of them fetched ahead, for GPUs.
    MatmulStaged,
    /// `matmul_skinny.wgsl`: few rows, whose steps of K threads share out, for GPUs. Packed matrices are unpacked for many rows.
    MatmulSkinny,
    /// `attention_subgroup.wgsl`, for CPU adapters with subgroups of 4 or 8.
    AttentionSubgroup,
    /// `attention_tiled.wgsl`: tiles in workgroup memory, for GPUs.
    AttentionTiled,
    /// `cached_attention_split.wgsl`: many workgroups read one long cache, for GPUs.
    CachedAttentionSplit,
}

impl Variant {
    pub const ALL: [Variant; 7] = [
        Variant::MatmulSubgroup,
        Variant::MatmulCooperative,
        Variant::MatmulStaged,
        Variant::MatmulSkinny,
        Variant::AttentionSubgroup,
        Variant::AttentionTiled,
        Variant::CachedAttentionSplit,
    ];

    /// Those that GPUs use by default, natively.
    pub const FOR_GPUS: [Variant; 4] =
        [Variant::MatmulStaged, Variant::MatmulSkinny, Variant::AttentionTiled, Variant::CachedAttentionSplit];

    /// The name of its shader, which is also its name in [`Kernels`].
    pub fn name(self) -> &'static str {
        match self {
            Variant::MatmulSubgroup => "matmul_subgroup",
            Variant::MatmulCooperative => "matmul_cooperative",
            Variant::MatmulStaged => "matmul_staged",
            Variant::MatmulSkinny => "matmul_skinny",
            Variant::AttentionSubgroup => "attention_subgroup",
            Variant::AttentionTiled => "attention_tiled",
            Variant::CachedAttentionSplit => "cached_attention_split",
        }
    }

    /// What it needs that an adapter with these abilities lacks. `None`: the adapter can run it.
    fn lacks(self, abilities: Abilities) -> Option<&'static str> {
        match self {
            Variant::MatmulSubgroup | Variant::AttentionSubgroup => abilities.lanes().is_none().then_some("subgroups of 4 or 8"),
            Variant::MatmulCooperative => abilities
                .matrix_unit
                .is_none()
                .then_some("matrix units of f16 with sums in f32, and subgroups of one size up to 64"),
            Variant::MatmulStaged | Variant::MatmulSkinny | Variant::AttentionTiled | Variant::CachedAttentionSplit => None,
        }
    }

    /// Whether an adapter with these abilities can run it.
    pub(super) fn runs(self, abilities: Abilities) -> bool {
        self.lacks(abilities).is_none()
    }

    /// Why an adapter with these abilities does not use it by default. `None`: it does.
    pub(super) fn unsuited(self, class: Class, abilities: Abilities) -> Option<String> {
        if let Some(needs) = self.lacks(abilities) {
            return Some(format!("needs {needs}"));
        }
        let reason = match (self, class) {
            (Variant::MatmulSubgroup | Variant::AttentionSubgroup, Class::Software) => return None,
            (Variant::MatmulSubgroup | Variant::AttentionSubgroup, _) => "made for CPU adapters",
            (_, Class::Software) => "made for GPUs",
            // A page shows a row alone and in a batch: its score must be the same.
            (Variant::MatmulSkinny | Variant::CachedAttentionSplit, Class::Web) => {
                "the order of its sums depends on the number of rows"
            }
            (Variant::MatmulCooperative, _) => "not timed on any GPU yet; ask for it with --kernels auto,matmul_cooperative",
            _ => return None,
        };
        Some(reason.into())
    }
}

/// Which optional kernels to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// The variants that suit the adapter, and these.
    Suited(BTreeSet<Variant>),
    /// Only these variants.
    Only(BTreeSet<Variant>),
}

impl Default for Kernels {
    fn default() -> Self {
        Kernels::Suited(BTreeSet::new())
    }
}

impl Kernels {
    /// The variants that are asked for by name.
    pub(super) fn named(&self) -> &BTreeSet<Variant> {
        match self {
            Kernels::Suited(named) | Kernels::Only(named) => named,
        }
    }
}

impl std::str::FromStr for Kernels {
    type Err = String;

    /// `plain`, or a comma-separated list of variants, with `auto` for those that suit the adapter.
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

/// The matrix units of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixUnit {
    /// Rows and columns of the matrices that a unit multiplies.
    pub size: u32,
    /// Threads per subgroup. The threads of a subgroup multiply together.
    pub subgroup: u32,
}

/// How kernels run on an adapter, chosen by its class when it is opened. Checkpoints record the tuning, because another one may
/// round differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Threads per row in row-wise kernels. With 1 there are no barriers. Kernels over the vocabulary (loss head, sampling) may
    /// have more.
    pub threads_per_row: u32,
    /// Threads of a matmul workgroup along columns and rows. Each thread computes an 8 x 8 tile.
    pub matmul_group: [u32; 2],
    /// Optional kernels. Each is used where the sizes allow it.
    pub variants: BTreeSet<Variant>,
    /// Lanes of a subgroup, for the kernels that need 4 or 8 of them.
    pub lanes: Option<u32>,
    /// For the kernels that need matrix units.
    pub matrix_unit: Option<MatrixUnit>,
    /// Cache positions per workgroup of `cached_attention_split.wgsl`. Shorter caches are not split.
    pub cache_part: u32,
    /// Vec4s of sums that a thread may have. Kernels that share a load between rows give a thread fewer rows instead, where that
    /// would be more: `attention_tiled.wgsl`, `matmul_skinny.wgsl`, `matmul_packed.wgsl` (nt).
    pub most_sums: u32,
    /// Decoding steps per read of the drawn tokens. On a CPU adapter waiting costs nothing, and frequent reads stop finished
    /// chains earlier.
    pub sync_interval: u32,
    /// Floating point operations per submission, after which a step is split.
    pub flops_per_submit: u64,
}

impl Tuning {
    /// The tuning of an adapter with these abilities.
    ///
    /// # Errors
    /// A named variant that the adapter cannot run.
    pub(super) fn of(facts: &AdapterFacts, abilities: Abilities, kernels: &Kernels) -> Result<Self, GpuError> {
        let mut variants = kernels.named().clone();
        if let Some((variant, needs)) = variants.iter().find_map(|v| Some((v.name(), v.lacks(abilities)?))) {
            return Err(GpuError::CannotRun { variant, needs, adapter: facts.to_string() });
        }
        if let Kernels::Suited(_) = kernels {
            variants.extend(Variant::ALL.into_iter().filter(|v| v.unsuited(facts.class, abilities).is_none()));
        }
        Ok(match facts.class {
            // A CPU runs a workgroup on one core, eight invocations at a time. Barriers cost time; small groups balance the load.
            Class::Software => Tuning {
                threads_per_row: 1,
                matmul_group: [8, 1],
                variants,
                lanes: abilities.lanes(),
                matrix_unit: abilities.matrix_unit,
                cache_part: 256,
                most_sums: u32::MAX,
                sync_interval: 1,
                flops_per_submit: 20_000_000_000,
            },
            Class::Integrated | Class::Web | Class::Discrete => Tuning {
                threads_per_row: 64,
                matmul_group: [8, 8],
                variants,
                lanes: abilities.lanes(),
                matrix_unit: abilities.matrix_unit,
                cache_part: 256,
                // With more, the compilers for Adreno and Apple M1 run out of registers. Those for AMD and NVIDIA do not.
                most_sums: if facts.class == Class::Discrete { u32::MAX } else { 8 },
                sync_interval: 8,
                flops_per_submit: if facts.class == Class::Discrete { 2_000_000_000_000 } else { 200_000_000_000 },
            },
        })
    }

    /// Whether [`Variant::MatmulSubgroup`] reads packed matrices as they are: `matmul_quad.wgsl`.
    pub fn reads_packed(&self) -> bool {
        self.has(Variant::MatmulSubgroup) && self.lanes == Some(4)
    }

    pub fn has(&self, variant: Variant) -> bool {
        self.variants.contains(&variant)
    }

    /// The same tuning with this variant only.
    pub fn only(&self, variant: Variant) -> Self {
        Tuning { variants: [variant].into(), ..self.clone() }
    }

    /// The same tuning without this variant.
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
    fn kernels_are_parsed_from_names() {
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
    fn every_variant_but_the_untimed_one_suits_some_adapter() {
        let suits = |v: Variant| {
            [(Class::Software, Some(8)), (Class::Discrete, None)].into_iter().any(|(c, s)| v.unsuited(c, abilities(s)).is_none())
        };
        let unsuited: Vec<Variant> = Variant::ALL.into_iter().filter(|v| !suits(*v)).collect();
        assert_eq!(unsuited, [Variant::MatmulCooperative]);
        let reason = |v: Variant, class, subgroup| v.unsuited(class, abilities(subgroup)).unwrap_or_default();
        assert_eq!(reason(Variant::MatmulSubgroup, Class::Discrete, Some(8)), "made for CPU adapters");
        assert_eq!(reason(Variant::AttentionTiled, Class::Software, Some(8)), "made for GPUs");
        assert!(
            [Variant::MatmulStaged, Variant::AttentionTiled].iter().all(|v| v.unsuited(Class::Web, abilities(None)).is_none())
        );
        for variant in [Variant::MatmulSkinny, Variant::CachedAttentionSplit] {
            assert!(reason(variant, Class::Web, None).contains("number of rows"));
        }
        assert!(reason(Variant::MatmulCooperative, Class::Discrete, Some(32)).starts_with("needs matrix units"));
        let able = Abilities { subgroup: Some(32), matrix_unit: Some(MatrixUnit { size: 16, subgroup: 32 }) };
        let reason = Variant::MatmulCooperative.unsuited(Class::Discrete, able);
        assert!(reason.is_some_and(|r| r.contains("--kernels auto,matmul_cooperative")));
    }

    #[test]
    fn variants_that_an_adapter_cannot_run_are_left_out_or_refused() {
        let facts = |class| AdapterFacts { name: "x".into(), backend: "Vulkan".into(), driver: String::new(), class };
        let tuning = |class, subgroup, kernels: &str| Tuning::of(&facts(class), abilities(subgroup), &kernels.parse().unwrap());
        assert!(tuning(Class::Software, Some(8), "auto").is_ok_and(|t| t.has(Variant::MatmulSubgroup)));
        for (class, subgroup) in [(Class::Software, None), (Class::Software, Some(16)), (Class::Web, None)] {
            assert!(tuning(class, subgroup, "auto").is_ok_and(|t| !t.has(Variant::MatmulSubgroup)));
            assert!(tuning(class, subgroup, "matmul_subgroup").is_err_and(|e| e.to_string().contains("subgroups of 4 or 8")));
        }
        assert!(
            tuning(Class::Discrete, Some(32), "auto,matmul_cooperative").is_err_and(|e| e.to_string().contains("matrix units"))
        );
        assert!(tuning(Class::Discrete, Some(32), "plain").is_ok_and(|t| t.variants.is_empty()));
        let both = tuning(Class::Software, Some(8), "auto,attention_tiled").map(|t| t.variants);
        assert!(both.is_ok_and(|v| v.contains(&Variant::AttentionTiled) && v.contains(&Variant::MatmulSubgroup)));
    }
}
