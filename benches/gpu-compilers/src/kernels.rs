//! The kernels that are compiled: those that operations choose at the shapes of real models, under the tuning of GPUs.
//!
//! An operation is recorded into a plan, as in a training step, and the plan says which kernels that takes. So a changed
//! shader, and a changed choice of variants, are measured without a change here. The rows of a table name the kernels of an
//! operation that are worth a row; one that the operation does not run is an error.

use jurist::gpu::{Class, Extent, Gpu, GpuOptions, KernelSpec, Kernels, MatrixUnit, PlanBuilder, Tuning, Variant};
use jurist::ops;
use jurist::ops::adamw::{self, AdamW, StepScalars};
use jurist::ops::attention::{self, Heads};
use jurist::ops::cached_attention::{self, Cache};
use jurist::ops::loss_head::{self, LossGradient, LossHead};
use jurist::ops::matmul::{self, Epilogue, Layout, Product};
use jurist::ops::matrix::{FullChunk, Matrix, Packed};
use jurist::ops::rmsnorm::{self, Norm};
use jurist::ops::sample::{self, Rows, Start};
use jurist::ops::swiglu::{self, Gated};
use jurist::ops::weight_dtype::WeightDtype;
use jurist::ops::{ceilings, grad_norm};

// Qwen3-0.6B.
const HIDDEN: u32 = 1024;
const FFN: u32 = 3072;
const VOCAB: u32 = 151_936;
const QWEN3: Shape = (16, 8, 128);
// The heads of SmolLM2-135M and of Gemma 3 1B.
const SMOLLM2: Shape = (9, 3, 64);
const GEMMA3: Shape = (4, 1, 256);
/// Tokens of a training step, and positions of a cache that is split.
const TOKENS: u32 = 512;
const CACHE: u32 = 2048;

/// Query heads, key/value heads and values of a head.
type Shape = (u32, u32, u32);

/// Whose choice of kernels is recorded.
#[derive(Clone, Copy, Debug)]
enum Adapter {
    /// A discrete or integrated GPU, natively.
    Native,
    /// A discrete GPU, where an integrated one takes other kernels.
    Discrete,
    /// An integrated GPU, and any in a browser, where a discrete one takes other kernels.
    Integrated,
    /// A GPU in a browser.
    Browser,
    /// One whose optional kernels failed their checks.
    Plain,
    /// One that products on matrix units were asked for.
    Units,
}

impl Adapter {
    fn tuning(self) -> Result<Tuning, String> {
        let kernels = match self {
            Adapter::Native | Adapter::Discrete | Adapter::Integrated | Adapter::Units => Kernels::default(),
            Adapter::Browser => Kernels::Only([Variant::MatmulStaged, Variant::AttentionTiled].into()),
            Adapter::Plain => Kernels::Only(Default::default()),
        };
        let class = match self {
            Adapter::Integrated => Class::Integrated,
            Adapter::Browser => Class::Web,
            _ => Class::Discrete,
        };
        let gpu = Gpu::dry_of(class, &GpuOptions { kernels, ..GpuOptions::default() }).map_err(|e| e.to_string())?;
        let mut tuning = gpu.tuning().clone();
        if let Adapter::Units = self {
            tuning.variants.insert(Variant::MatmulCooperative);
            tuning.matrix_unit = Some(UNIT);
        }
        Ok(tuning)
    }
}

/// The matrix units of NVIDIA, as wgpu reports them.
const UNIT: MatrixUnit = MatrixUnit { size: 16, subgroup: 32 };

/// An operation, and the kernels of it that have rows.
struct Operation {
    adapter: Adapter,
    record: fn(&mut PlanBuilder),
    /// Name of the row, and `file:entry` of the kernel.
    rows: &'static [(&'static str, &'static str)],
}

const OPERATIONS: &[Operation] = &[
    // Products: forward, input gradient and weight gradient of gate and up.
    Operation {
        adapter: Adapter::Native,
        record: |plan| product(plan, Layout::Nt, [TOKENS, 2 * FFN, HIDDEN], Epilogue::Write),
        rows: &[("product nt", "matmul_staged:nt")],
    },
    Operation {
        adapter: Adapter::Native,
        record: |plan| product(plan, Layout::Nn, [TOKENS, HIDDEN, 2 * FFN], Epilogue::Write),
        rows: &[("product nn", "matmul_staged:nn")],
    },
    Operation {
        adapter: Adapter::Native,
        record: |plan| product(plan, Layout::Tn, [2 * FFN, HIDDEN, TOKENS], Epilogue::Accumulate),
        rows: &[("product tn", "matmul_staged:tn")],
    },
    // The other tile of each, with attention's output projection.
    Operation {
        adapter: Adapter::Native,
        record: |plan| {
            let residual = words(plan, &[TOKENS / 4, HIDDEN]);
            product(plan, Layout::Nt, [TOKENS / 4, HIDDEN, HIDDEN], Epilogue::Residual(residual));
        },
        rows: &[("product nt, few", "matmul_staged:nt")],
    },
    Operation {
        adapter: Adapter::Native,
        record: |plan| product(plan, Layout::Nn, [4 * TOKENS, HIDDEN, HIDDEN], Epilogue::Write),
        rows: &[("product nn, many", "matmul_staged:nn")],
    },
    Operation {
        adapter: Adapter::Native,
        record: |plan| product(plan, Layout::Tn, [HIDDEN, HIDDEN, TOKENS], Epilogue::Accumulate),
        rows: &[("product tn, split K", "matmul_staged:tn"), ("product tn, sum of parts", "matmul_staged:sum")],
    },
    Operation {
        adapter: Adapter::Plain,
        record: |plan| product(plan, Layout::Nt, [TOKENS, 2 * FFN, HIDDEN], Epilogue::Write),
        rows: &[("plain: product nt", "matmul:nt")],
    },
    Operation {
        adapter: Adapter::Native,
        record: |plan| product(plan, Layout::Nt, [TOKENS, 2 * FFN, HIDDEN - 1], Epilogue::Write),
        rows: &[("product nt, odd K", "matmul:nt")],
    },
    Operation {
        adapter: Adapter::Native,
        record: |plan| product(plan, Layout::Nt, [1, 2 * FFN, HIDDEN], Epilogue::Write),
        rows: &[("product nt, 1 row", "matmul_skinny:nt")],
    },
    Operation {
        adapter: Adapter::Units,
        record: |plan| product(plan, Layout::Nt, [TOKENS, 2 * FFN, HIDDEN], Epilogue::Write),
        rows: &[("product nt, matrix units", "matmul_cooperative:nt")],
    },
    Operation {
        adapter: Adapter::Units,
        record: |plan| product(plan, Layout::Tn, [2 * FFN, HIDDEN, TOKENS], Epilogue::Accumulate),
        rows: &[("product tn, matrix units", "matmul_cooperative:tn")],
    },
    // Frozen weights in few bits: one chain that is decoded, eight, and the input gradient beside an adapter.
    Operation {
        adapter: Adapter::Native,
        record: |plan| packed(plan, WeightDtype::Q8, 1),
        rows: &[("packed nt q8, 1 row", "matmul_skinny:nt")],
    },
    Operation {
        adapter: Adapter::Native,
        record: |plan| packed(plan, WeightDtype::Q4, 1),
        rows: &[("packed nt q4, 1 row", "matmul_skinny:nt")],
    },
    Operation {
        adapter: Adapter::Native,
        record: |plan| packed(plan, WeightDtype::Bf16, 1),
        rows: &[("packed nt bf16, 1 row", "matmul_skinny:nt")],
    },
    Operation {
        adapter: Adapter::Discrete,
        record: |plan| packed(plan, WeightDtype::Q8, 8),
        rows: &[("discrete: packed nt q8, 8 rows", "matmul_skinny:nt")],
    },
    Operation {
        adapter: Adapter::Integrated,
        record: |plan| packed(plan, WeightDtype::Q8, 8),
        rows: &[("integrated: packed nt q8, 8 rows", "matmul_skinny:nt")],
    },
    Operation {
        adapter: Adapter::Discrete,
        record: |plan| packed(plan, WeightDtype::Q4, 8),
        rows: &[("discrete: packed nt q4, 8 rows", "matmul_skinny:nt")],
    },
    Operation {
        adapter: Adapter::Integrated,
        record: |plan| packed(plan, WeightDtype::Q4, 8),
        rows: &[("integrated: packed nt q4, 8 rows", "matmul_skinny:nt")],
    },
    Operation {
        adapter: Adapter::Native,
        record: |plan| packed(plan, WeightDtype::Bf16, 8),
        rows: &[("packed nt bf16, 8 rows", "matmul_skinny:nt")],
    },
    Operation {
        adapter: Adapter::Browser,
        record: |plan| packed(plan, WeightDtype::Q4, 1),
        rows: &[("browsers: packed nt q4, 1 row", "matmul_packed:nt")],
    },
    Operation {
        adapter: Adapter::Browser,
        record: |plan| packed(plan, WeightDtype::Q8, 8),
        rows: &[("browsers: packed nt q8, 8 rows", "matmul_packed:nt")],
    },
    Operation { adapter: Adapter::Browser, record: packed_backward, rows: &[("browsers: packed nn q8", "matmul_packed:nn")] },
    Operation {
        adapter: Adapter::Native,
        record: |plan| packed(plan, WeightDtype::Q4, TOKENS),
        rows: &[("unpack q4", "unpack:unpack")],
    },
    // Attention over packed sequences, in training and scoring.
    Operation {
        adapter: Adapter::Native,
        record: |plan| attention(plan, QWEN3),
        rows: &[
            ("attention forward, D 128", "attention_tiled:forward"),
            ("attention backward q, D 128", "attention_tiled:backward_q"),
        ],
    },
    Operation {
        adapter: Adapter::Discrete,
        record: |plan| attention(plan, QWEN3),
        rows: &[("discrete: attention backward kv, D 128", "attention_tiled:backward_kv")],
    },
    Operation {
        adapter: Adapter::Integrated,
        record: |plan| attention(plan, QWEN3),
        rows: &[("integrated, browsers: attention backward kv, D 128", "attention_tiled:backward_kv")],
    },
    Operation {
        adapter: Adapter::Native,
        record: |plan| attention(plan, SMOLLM2),
        rows: &[
            ("attention forward, D 64", "attention_tiled:forward"),
            ("attention backward q, D 64", "attention_tiled:backward_q"),
            ("attention backward kv, D 64", "attention_tiled:backward_kv"),
        ],
    },
    Operation {
        adapter: Adapter::Discrete,
        record: |plan| attention(plan, GEMMA3),
        rows: &[
            ("discrete: attention forward, D 256", "attention_tiled:forward"),
            ("discrete: attention backward q, D 256", "attention_tiled:backward_q"),
            ("discrete: attention backward kv, D 256", "attention_tiled:backward_kv"),
        ],
    },
    Operation {
        adapter: Adapter::Integrated,
        record: |plan| attention(plan, GEMMA3),
        rows: &[
            ("integrated, browsers: attention forward, D 256", "attention_tiled:forward"),
            ("integrated, browsers: attention backward q, D 256", "attention_tiled:backward_q"),
            ("integrated, browsers: attention backward kv, D 256", "attention_tiled:backward_kv"),
        ],
    },
    Operation {
        adapter: Adapter::Plain,
        record: |plan| attention(plan, QWEN3),
        rows: &[
            ("plain: attention forward, D 128", "attention:forward"),
            ("plain: attention backward q, D 128", "attention:backward_q"),
            ("plain: attention backward kv, D 128", "attention:backward_kv"),
        ],
    },
    Operation {
        adapter: Adapter::Plain,
        record: |plan| attention(plan, SMOLLM2),
        rows: &[
            ("plain: attention forward, D 64", "attention:forward"),
            ("plain: attention backward q, D 64", "attention:backward_q"),
            ("plain: attention backward kv, D 64", "attention:backward_kv"),
        ],
    },
    Operation {
        adapter: Adapter::Plain,
        record: |plan| attention(plan, GEMMA3),
        rows: &[
            ("plain: attention forward, D 256", "attention:forward"),
            ("plain: attention backward q, D 256", "attention:backward_q"),
            ("plain: attention backward kv, D 256", "attention:backward_kv"),
        ],
    },
    // Attention over a cache, in decoding.
    Operation {
        adapter: Adapter::Native,
        record: |plan| cached(plan, QWEN3),
        rows: &[
            ("cached attention part, D 128", "cached_attention_split:part"),
            ("cached attention combine, D 128", "cached_attention_split:combine"),
        ],
    },
    Operation {
        adapter: Adapter::Native,
        record: |plan| cached(plan, SMOLLM2),
        rows: &[("cached attention part, D 64", "cached_attention_split:part")],
    },
    Operation {
        adapter: Adapter::Native,
        record: |plan| cached(plan, GEMMA3),
        rows: &[("cached attention part, D 256", "cached_attention_split:part")],
    },
    Operation {
        adapter: Adapter::Browser,
        record: |plan| cached(plan, QWEN3),
        rows: &[("browsers: cached attention, D 128", "cached_attention_team:attend")],
    },
    Operation {
        adapter: Adapter::Browser,
        record: |plan| cached(plan, SMOLLM2),
        rows: &[("browsers: cached attention, D 64", "cached_attention_team:attend")],
    },
    Operation {
        adapter: Adapter::Browser,
        record: |plan| cached(plan, GEMMA3),
        rows: &[("browsers: cached attention, D 256", "cached_attention_team:attend")],
    },
    // Over the vocabulary.
    Operation {
        adapter: Adapter::Native,
        record: losses,
        rows: &[("loss head statistics", "loss_head:stats"), ("loss head gradient", "loss_head:gradient")],
    },
    Operation {
        adapter: Adapter::Native,
        record: samples,
        rows: &[("sampler threshold", "sample:threshold"), ("sampler next", "sample:next")],
    },
    // What else a training step runs, and the ceiling of the bench.
    Operation {
        adapter: Adapter::Native,
        record: norms,
        rows: &[("rmsnorm forward", "rmsnorm:forward"), ("rmsnorm backward", "rmsnorm:backward")],
    },
    Operation { adapter: Adapter::Native, record: gated, rows: &[("swiglu forward", "swiglu:forward")] },
    Operation {
        adapter: Adapter::Native,
        record: update,
        rows: &[("grad norm squares", "grad_norm:squares"), ("adamw", "adamw:advance")],
    },
    Operation { adapter: Adapter::Native, record: ceiling, rows: &[("ceiling of multiply-adds", "ceilings:multiply_add")] },
];

fn size(n: u32) -> Extent {
    Extent::fixed(n)
}

fn words(plan: &mut PlanBuilder, counts: &[u32]) -> jurist::gpu::Tensor {
    plan.persistent("tensor", counts.iter().map(|n| *n as usize).product())
}

fn product(plan: &mut PlanBuilder, layout: Layout, [m, n, k]: [u32; 3], epilogue: Epilogue) {
    let tensors = [[m, k], [k, n], [m, n]].map(|shape| words(plan, &shape));
    matmul::record_product(plan, Product::whole(layout, tensors, [m, n, k].map(size), epilogue));
}

/// A matrix `[N, K]` of gate and up in few bits.
fn packed_matrix(plan: &mut PlanBuilder, dtype: WeightDtype) -> Matrix {
    let values = 2 * FFN * HIDDEN;
    let codes = words(plan, &[values * dtype.bits() as u32 / 32]);
    let scales = dtype.is_quantised().then(|| words(plan, &[values / 32]));
    Matrix::packed(Packed { dtype, words: codes, scales }, 2 * FFN)
}

fn packed(plan: &mut PlanBuilder, dtype: WeightDtype, rows: u32) {
    let w = packed_matrix(plan, dtype);
    let (x, y) = (words(plan, &[rows, HIDDEN]), words(plan, &[rows, 2 * FFN]));
    matmul::record_forward(plan, x, &w, y, [rows, 2 * FFN, HIDDEN].map(size), Epilogue::Write);
}

fn packed_backward(plan: &mut PlanBuilder) {
    let w = packed_matrix(plan, WeightDtype::Q8);
    let (dy, dx) = (words(plan, &[TOKENS, 2 * FFN]), words(plan, &[TOKENS, HIDDEN]));
    matmul::record_backward_input(plan, dy, &w, dx, [TOKENS, 2 * FFN, HIDDEN].map(size), Epilogue::Write);
}

fn heads((heads, kv_heads, head_dim): Shape) -> Heads {
    Heads::new(heads, kv_heads, head_dim, None)
}

fn attention(plan: &mut PlanBuilder, shape: Shape) {
    let h = heads(shape);
    let [qkv, dqkv] = [(); 2].map(|()| words(plan, &[TOKENS, h.total(), h.head_dim]));
    let [out, dout] = [(); 2].map(|()| words(plan, &[TOKENS, h.heads, h.head_dim]));
    let (spans, stats) = (words(plan, &[TOKENS, attention::SPAN_WORDS as u32]), words(plan, &[TOKENS, h.heads, 2]));
    attention::record_forward(plan, &h, qkv, spans, out, stats, size(TOKENS));
    attention::record_backward(plan, &h, attention::Backward { qkv, spans, out, stats, dout, dqkv }, size(TOKENS));
}

fn cached(plan: &mut PlanBuilder, shape: Shape) {
    const SEQUENCES: u32 = 16;
    let h = heads(shape);
    let (qkv, out) = (words(plan, &[SEQUENCES, h.total(), h.head_dim]), words(plan, &[SEQUENCES, h.heads, h.head_dim]));
    let slots = words(plan, &[SEQUENCES, cached_attention::SLOT_WORDS as u32]);
    let tensor = words(plan, &[cached_attention::cache_words(&h, (SEQUENCES * CACHE) as usize) as u32]);
    let cache = Cache { tensor, own: CACHE, max_length: CACHE };
    cached_attention::record_forward(plan, &h, (qkv, slots), cache, out, size(SEQUENCES));
}

fn losses(plan: &mut PlanBuilder) {
    const ROWS: u32 = 32;
    let table = words(plan, &[VOCAB, HIDDEN]);
    let head = LossHead {
        hidden: words(plan, &[ROWS, HIDDEN]),
        table: Matrix::full(table, VOCAB),
        rows: words(plan, &[ROWS, loss_head::TOKEN_LOSS_WORDS as u32]),
        score_tokens: words(plan, &[5]),
        stats: words(plan, &[ROWS, loss_head::STATS as u32 + 5]),
        count: size(ROWS),
        width: HIDDEN,
        vocab: VOCAB,
        scores: 5,
        chunk: ROWS,
    };
    let gradient = LossGradient {
        coefficients: words(plan, &[ROWS, 5]),
        dhidden: words(plan, &[ROWS, HIDDEN]),
        dtable: Some(vec![FullChunk { rows: VOCAB, tensor: words(plan, &[VOCAB, HIDDEN]) }]),
    };
    loss_head::record(plan, head, Some(gradient));
}

fn samples(plan: &mut PlanBuilder) {
    const ROWS: u32 = 16;
    let rows = Rows {
        logits: words(plan, &[ROWS, VOCAB]),
        start: Start::First,
        samplers: words(plan, &[ROWS, sample::SAMPLER_WORDS as u32]),
        slots: words(plan, &[ROWS, cached_attention::SLOT_WORDS as u32]),
        ids: words(plan, &[ROWS]),
        streams: words(plan, &[ROWS, 2]),
        drawn: words(plan, &[ROWS, 8, 2]),
        count: size(ROWS),
        vocab: VOCAB,
        history: 8,
    };
    let truncated = plan.run_param();
    sample::record(plan, rows, truncated);
}

fn norms(plan: &mut PlanBuilder) {
    let norm = Norm::plain(HIDDEN, 1e-6);
    let [x, y, dy, dx] = [(); 4].map(|()| words(plan, &[TOKENS, HIDDEN]));
    let [w, dw] = [(); 2].map(|()| words(plan, &[HIDDEN]));
    rmsnorm::record_forward(plan, norm, x, w, y, size(TOKENS));
    rmsnorm::record_backward(plan, norm, rmsnorm::Backward { x, w, dy, dx, dw: Some(dw), accumulate: true }, size(TOKENS));
}

fn gated(plan: &mut PlanBuilder) {
    let (gate_up, y) = (words(plan, &[TOKENS, 2 * FFN]), words(plan, &[TOKENS, FFN]));
    swiglu::record_forward(plan, gate_up, y, size(TOKENS), Gated::silu(FFN as usize));
}

fn update(plan: &mut PlanBuilder) {
    let [parameter, gradient, m, v] = [(); 4].map(|()| words(plan, &[2 * FFN, HIDDEN]));
    let norm = words(plan, &[4]);
    grad_norm::record(plan, &[gradient], 1.0, norm);
    let scalars = StepScalars { lr: plan.run_param(), correction1: plan.run_param(), correction2: plan.run_param() };
    let state = adamw::State { parameter, gradient, m, v, decay: 0.01 };
    adamw::record(plan, AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 }, scalars, norm, state);
}

fn ceiling(plan: &mut PlanBuilder) {
    let sums = words(plan, &[1 << 16]);
    let chains = ceilings::CHAINS.into_iter().max().unwrap_or(16);
    ceilings::record_multiply_add(plan, sums, size(1 << 16), 1024, chains);
}

/// A kernel with the name of its row.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub row: &'static str,
    pub spec: KernelSpec,
    /// No integrated GPU runs it.
    pub discrete: bool,
}

/// `file:entry`, without the file's ending.
pub fn short(spec: &KernelSpec) -> String {
    format!("{}:{}", spec.file.trim_end_matches(".wgsl"), spec.entry)
}

/// The kernels, in the order of the tables.
///
/// # Errors
/// A row whose kernel does not exist, or which its operation does not run.
pub fn all() -> Result<Vec<Kernel>, String> {
    of(OPERATIONS)
}

fn of(operations: &[Operation]) -> Result<Vec<Kernel>, String> {
    let known: Vec<String> = ops::catalogue().iter().map(short).collect();
    let mut all = Vec::new();
    for operation in operations {
        let mut plan = PlanBuilder::new(&operation.adapter.tuning()?);
        (operation.record)(&mut plan);
        for (row, kernel) in operation.rows {
            // Where an operation runs two variants, as for the first and the other parts of a matrix, the first one is taken.
            let Some(spec) = plan.kernels().find(|spec| short(spec) == *kernel) else {
                let mut runs: Vec<String> = plan.kernels().map(short).collect();
                runs.dedup();
                let fault =
                    if known.iter().any(|k| k == kernel) { "which its operation does not run" } else { "which does not exist" };
                return Err(format!(
                    "the row `{row}` names the kernel {kernel}, {fault}; the operation runs {}. \
                     Name one of these in benches/gpu-compilers/src/kernels.rs",
                    runs.join(", ")
                ));
            };
            all.push(Kernel { row, spec: spec.clone(), discrete: matches!(operation.adapter, Adapter::Discrete) });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_kernel_and_a_name_of_its_own() {
        let all = all().unwrap();
        let mut names: Vec<&str> = all.iter().map(|k| k.row).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn a_kernel_that_is_gone_is_named() {
        let of_row = |rows| of(&[Operation { adapter: Adapter::Native, record: gated, rows }]).map(|all| all.len());
        assert_eq!(of_row(&[("swiglu forward", "swiglu:forward")]), Ok(1));
        let gone = of_row(&[("swiglu forward", "swiglu:sideways")]).unwrap_err();
        assert!(gone.contains("swiglu:sideways, which does not exist; the operation runs swiglu:forward."), "{gone}");
        let other = of_row(&[("swiglu forward", "swiglu:backward")]).unwrap_err();
        assert!(
            other.contains("swiglu:backward, which its operation does not run; the operation runs swiglu:forward."),
            "{other}"
        );
    }
}
