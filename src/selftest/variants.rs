//! The optional kernels that an adapter may use. Each is tried before the work begins, on small awkward shapes, and compared with
//! the `f64` reference. A kernel that fails is left out, so that a driver that miscompiles it costs only speed.

use std::collections::BTreeSet;
use std::fmt;

use super::Finding;
use super::kernels::matmul::Operand;
use super::kernels::{KernelChecker, attention, cached_attention, matmul, matmul_packed};
use super::stored::Stored;
use crate::gpu::{Gpu, GpuError, GpuOptions, Kernels, PlanBuilder, Tuning, Variant};
use crate::ops::attention::Heads;
use crate::ops::matmul::Layout;
use crate::ops::staged;
use crate::ops::weight_dtype::WeightDtype;

/// The work that a GPU is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Forward only: the products of the backward pass are not tried.
    Judging,
    Training,
}

/// What the checks of optional kernels are for.
#[derive(Clone, Debug)]
pub struct Trial {
    pub work: Work,
    /// The attention layers of the model, and how its matrices are stored. `None`: any model's.
    pub model: Option<(Vec<Heads>, Vec<WeightDtype>)>,
}

impl Trial {
    /// For any model.
    pub fn of(work: Work) -> Self {
        Trial { work, model: None }
    }

    fn trains(&self) -> bool {
        self.work == Work::Training
    }

    /// Whether products with matrices in this dtype happen. Training multiplies with adapters, and with gradients.
    fn has(&self, dtype: WeightDtype) -> bool {
        let known = |(_, dtypes): &(_, Vec<WeightDtype>)| dtypes.contains(&dtype);
        self.model.as_ref().is_none_or(known) || (dtype == WeightDtype::F32 && self.trains())
    }

    /// Whether the work uses a variant at all.
    fn uses(&self, variant: Variant) -> bool {
        match variant {
            Variant::MatmulStaged => self.has(WeightDtype::F32),
            _ => true,
        }
    }
}

/// The result of a variant's checks.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub variant: Variant,
    /// The worst check, in units of its tolerance.
    pub worst: Finding,
}

impl Verdict {
    pub fn passes(&self) -> bool {
        self.worst.passes()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, worst) = (self.variant.name(), &self.worst);
        if self.passes() {
            return write!(f, "{name} is in use: {} is off by {:.1e} of {:.0e}", worst.group, worst.deviation, worst.tolerance);
        }
        let off = match worst.deviation.is_finite() {
            true => format!("is off by {:.1e}, allowed {:.0e}", worst.deviation, worst.tolerance),
            false => "gives no number, or cannot run".into(),
        };
        write!(f, "{name} is switched off on this adapter, its plain kernel is used: {} ({}) {off}", worst.group, worst.worst)
    }
}

/// Opens a GPU for `work` without the optional kernels that fail their checks there, and returns the verdict on each.
///
/// # Errors
/// As [`Gpu::open_untested`].
pub async fn open(options: &GpuOptions, work: Work) -> Result<(Gpu, Vec<Verdict>), GpuError> {
    tried(options, Gpu::open_untested(options).await?, &Trial::of(work)).await
}

/// `gpu`, opened with `options`, without the optional kernels that fail their checks or have no work, and the verdict on each
/// that has. After a shader that is refused, or a lost device, it is another device.
///
/// # Errors
/// As [`Gpu::open_untested`].
pub async fn tried(options: &GpuOptions, mut gpu: Gpu, trial: &Trial) -> Result<(Gpu, Vec<Verdict>), GpuError> {
    let mut options = options.clone();
    let mut failed: Vec<Verdict> = Vec::new();
    'device: loop {
        let mut tuning = gpu.tuning().clone();
        tuning.variants.retain(|variant| trial.uses(*variant));
        let mut verdicts = failed.clone();
        for variant in tuning.variants.clone() {
            let verdict = Verdict { variant, worst: attempt(&gpu, variant, trial).await };
            if !verdict.passes() {
                tuning = tuning.without(variant);
                failed.push(verdict.clone());
            }
            verdicts.push(verdict);
            if gpu.check().is_err() {
                // After a refused shader or a lost device nothing else runs: open another device, without this variant.
                options.kernels = Kernels::Only(tuning.without(variant).variants);
                gpu = Gpu::open_untested(&options).await?;
                continue 'device;
            }
        }
        return Ok((gpu.tuned(tuning), verdicts));
    }
}

/// The worst finding of one variant's checks.
async fn attempt(gpu: &Gpu, variant: Variant, trial: &Trial) -> Finding {
    // The caches of the checks are short; a small part size splits them nevertheless.
    let tuning = Tuning { variants: BTreeSet::from([variant]), cache_part: 4, ..gpu.tuning().clone() };
    let mut checker = KernelChecker { tuning, ..KernelChecker::new(gpu) };
    let outcome = match variant {
        Variant::MatmulSubgroup => shared_loads(&mut checker, trial).await,
        Variant::MatmulCooperative => products(&mut checker, trial).await,
        Variant::MatmulStaged => tiles(&mut checker, trial).await,
        Variant::MatmulSkinny => few_rows(&mut checker, trial).await,
        Variant::AttentionSubgroup | Variant::AttentionTiled => layers(&mut checker, trial).await,
        Variant::CachedAttentionSplit => caches(&mut checker).await,
    };
    let outcome = outcome.and(gpu.check());
    checker.report_error(variant.name(), outcome);
    checker.report.worst()
}

/// Products in f32, and with packed matrices where the kernel reads them: one row, and tiles that are not full.
async fn shared_loads(checker: &mut KernelChecker, trial: &Trial) -> Result<(), GpuError> {
    if trial.has(WeightDtype::F32) {
        products(checker, trial).await?;
    }
    if !checker.tuning.reads_packed() {
        return Ok(());
    }
    for dtype in WeightDtype::PACKED.into_iter().filter(|dtype| trial.has(*dtype)) {
        let how = Stored { dtype, cuts: &[36] };
        matmul_packed::product_with(checker, how, Layout::Nt, [1, 64], Operand::CHUNKS, &["write"]).await?;
        matmul_packed::product_with(checker, how, Layout::Nt, [11, 64], Operand::CHUNKS, &["write", "residual"]).await?;
    }
    Ok(())
}

/// The lowest tile with every epilogue, and the tallest of each layout as a training step uses it.
async fn products(checker: &mut KernelChecker, trial: &Trial) -> Result<(), GpuError> {
    let lowest = match checker.tuning.has(Variant::MatmulCooperative) {
        true => [33, 36, 12],
        false => [3, 36, 12],
    };
    matmul::product(checker, Layout::Nt, lowest, Operand::CHUNKS).await?;
    matmul::product_with(checker, Layout::Nt, [68, 228, 12], Operand::CHUNKS, &["write"]).await?;
    if trial.trains() {
        matmul::product_with(checker, Layout::Nn, [68, 228, 12], Operand::WINDOWS, &["write"]).await?;
        matmul::product_with(checker, Layout::Tn, [68, 228, 13], Operand::WINDOWS, &["accumulate"]).await?;
    }
    Ok(())
}

/// Both tiles with tails in every direction, every epilogue, C by value, and a weight gradient in parts of K.
async fn tiles(checker: &mut KernelChecker, trial: &Trial) -> Result<(), GpuError> {
    products(checker, trial).await?;
    matmul::product(checker, Layout::Nt, [70, 33, 20], Operand::CHUNKS).await?;
    let mut layouts = vec![(Layout::Nt, "write")];
    if trial.trains() {
        layouts.extend([(Layout::Nn, "write"), (Layout::Tn, "accumulate")]);
        matmul::product_with(checker, Layout::Tn, [36, 20, 301], Operand::WINDOWS, &["accumulate"]).await?;
    }
    for edge in [staged::SMALL, staged::LARGE] {
        for (layout, epilogue) in &layouts {
            let whole = |plan: &mut PlanBuilder, p| staged::record_whole(plan, p, edge);
            matmul::product_by(checker, *layout, [132, 140, 28], Operand::WINDOWS, &[epilogue], whole).await?;
        }
    }
    Ok(())
}

/// One row and more than a tile's, K of one turn and of several, every epilogue, and a matrix that is unpacked for many rows.
async fn few_rows(checker: &mut KernelChecker, trial: &Trial) -> Result<(), GpuError> {
    if trial.has(WeightDtype::F32) {
        matmul::product(checker, Layout::Nt, [3, 37, 68], Operand::CHUNKS).await?;
        for shape in [[1, 8, 260], [8, 6, 516]] {
            matmul::product_with(checker, Layout::Nt, shape, Operand::WINDOWS, &["write"]).await?;
        }
    }
    for dtype in WeightDtype::PACKED.into_iter().filter(|dtype| trial.has(*dtype)) {
        let how = Stored { dtype, cuts: &[37] };
        matmul_packed::product_with(checker, how, Layout::Nt, [1, 64], Operand::CHUNKS, &["write"]).await?;
        matmul_packed::product_with(checker, how, Layout::Nt, [11, 1056], Operand::CHUNKS, &["write", "residual"]).await?;
        matmul_packed::product_with(checker, how, Layout::Nt, [33, 64], Operand::CHUNKS, &["write"]).await?;
    }
    Ok(())
}

/// Packed sequences and shared prefixes: the model's layers, or grouped heads under a window with tails in every direction.
async fn layers(checker: &mut KernelChecker, trial: &Trial) -> Result<(), GpuError> {
    let mut layers = vec![Heads::new(6, 2, 8, Some(6))];
    if let Some((heads, _)) = &trial.model {
        layers.clone_from(heads);
    } else if checker.tuning.has(Variant::AttentionTiled) {
        // Vectors of several chunks, the last of them not whole.
        layers.extend([Heads::new(3, 1, 80, None), Heads::new(2, 1, 256, None)]);
    }
    for h in layers {
        let batch = attention::shared_prefixes();
        match trial.work {
            Work::Judging => attention::forward(checker, &h, "shared prefixes", &batch).await?,
            Work::Training => attention::packed(checker, &h, "shared prefixes", &batch).await?,
        }
    }
    Ok(())
}

async fn caches(checker: &mut KernelChecker) -> Result<(), GpuError> {
    cached_attention::cached(checker, &Heads::new(6, 2, 8, Some(6))).await?;
    cached_attention::cached(checker, &Heads::new(2, 1, 80, None)).await
}
