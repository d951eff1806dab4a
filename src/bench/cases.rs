//! Times single kernels: the products, attention, norm, SwiGLU and loss head of the measured model, as the decoder records them.

use super::clock::{self, Effort};
use super::{Group, Measurement, Shape};
use crate::gpu::{Extent, Gpu, GpuError, Plan, PlanBuilder, RunParams, Tensor, Variant};
use crate::model::decoder::PackedInputs;
use crate::ops::attention::{self, Heads};
use crate::ops::loss_head::{self, LossGradient, LossHead, STATS, TOKEN_LOSS_WORDS, TokenLoss};
use crate::ops::matmul::{self as products, Epilogue, Layout, Product, record_product};
use crate::ops::matrix::{FullChunk, Matrix, Packed};
use crate::ops::rmsnorm::{self, Norm};
use crate::ops::swiglu::{self, Gated};
use crate::ops::weight_dtype::WeightDtype;
use crate::random::Stream;

/// One operation (a kernel, or a few) at one shape.
#[derive(Clone, Debug)]
pub struct KernelCase {
    pub group: Group,
    /// The same name in every run, and in the programs of `benches/peers`.
    pub name: String,
    /// Floating point operations of the mathematics.
    pub flops: u64,
    /// Bytes read or written at least once.
    pub bytes: u64,
    operation: Operation,
}

/// The operation of a case.
#[derive(Clone, Debug)]
enum Operation {
    /// `units`: on matrix units, if the tuning uses them.
    Matmul {
        layout: Layout,
        m: usize,
        n: usize,
        k: usize,
        units: bool,
    },
    Packed {
        dtype: WeightDtype,
        transposed: bool,
        m: usize,
        n: usize,
        k: usize,
    },
    Attention {
        shape: Shape,
        backward: bool,
    },
    Norm {
        rows: usize,
        width: usize,
        backward: bool,
    },
    Swiglu {
        rows: usize,
        width: usize,
        backward: bool,
    },
    Loss {
        rows: usize,
        width: usize,
        vocab: usize,
        backward: bool,
    },
}

/// The most bytes of the logits of one chunk, as in a training step.
const LOGITS_BYTES: u64 = 32 << 20;

/// Every case of `shape`. `units` means that products use matrix units; then the square products are measured without them too.
pub fn all_cases(shape: &Shape, units: bool) -> Vec<KernelCase> {
    let mut cases = Vec::new();
    for n in &shape.squares {
        let layouts = [Layout::Nn, Layout::Nt, Layout::Tn];
        cases.extend(layouts.map(|layout| matmul(layout, *n, *n, *n)));
        if units {
            cases.extend(layouts.map(|layout| without_units(layout, *n)));
        }
    }
    // The widest product of a layer is gate and up; this shape is the most common one among peers.
    cases.push(matmul(Layout::Nt, shape.step_tokens(), 1024, shape.hidden));
    if let Some(n) = shape.squares.iter().max() {
        cases.extend([1, 4, 16, 64].map(|m| matmul(Layout::Nt, m, *n, *n)));
        // A frozen matrix in few bits: a decode step, and the forward and backward passes of a training step beside an adapter.
        for dtype in [WeightDtype::Bf16, WeightDtype::Q8, WeightDtype::Q4] {
            cases.extend([1, 16].map(|m| packed(dtype, true, m, *n, *n)));
            cases.extend([true, false].map(|transposed| packed(dtype, transposed, shape.step_tokens(), 1024, shape.hidden)));
        }
    }
    let rows = shape.step_tokens();
    let both = [false, true];
    cases.extend(both.map(|backward| attention(shape, backward)));
    cases.extend(both.map(|backward| norm(rows, shape.hidden, backward)));
    cases.extend(both.map(|backward| swiglu(rows, shape.ffn, backward)));
    cases.extend(both.map(|backward| loss(rows, shape.hidden, shape.vocab, backward)));
    cases
}

fn matmul(layout: Layout, m: usize, n: usize, k: usize) -> KernelCase {
    let name = format!("matmul {} {m}x{k}x{n}", format!("{layout:?}").to_lowercase());
    let bytes = 4 * (m * k + k * n + m * n) as u64;
    KernelCase {
        group: Group::Matmul,
        name,
        flops: 2 * (m * n * k) as u64,
        bytes,
        operation: Operation::Matmul { layout, m, n, k, units: true },
    }
}

/// A square product without matrix units, whatever the tuning.
fn without_units(layout: Layout, n: usize) -> KernelCase {
    let case = matmul(layout, n, n, n);
    KernelCase {
        name: format!("{}, no matrix units", case.name),
        operation: Operation::Matmul { layout, m: n, n, k: n, units: false },
        ..case
    }
}

fn packed(dtype: WeightDtype, transposed: bool, m: usize, n: usize, k: usize) -> KernelCase {
    let layout = if transposed { "nt" } else { "nn" };
    let name = format!("matmul {layout} {} {m}x{k}x{n}", dtype.name());
    let scales = if dtype.is_quantised() { k * n / 32 * 4 } else { 0 };
    let bytes = (4 * (m * k + m * n) + k * n * dtype.bits() / 8 + scales) as u64;
    let operation = Operation::Packed { dtype, transposed, m, n, k };
    KernelCase { group: Group::Matmul, name, flops: 2 * (m * n * k) as u64, bytes, operation }
}

fn direction(backward: bool) -> &'static str {
    if backward { "backward" } else { "forward" }
}

fn attention(shape: &Shape, backward: bool) -> KernelCase {
    let Shape { batch, tokens, heads, kv_heads, head_dim, .. } = *shape;
    let name = format!("attention {} {batch}x{tokens}, {heads}/{kv_heads} heads of {head_dim}", direction(backward));
    let forward = batch as u64 * shape.attention_flops(tokens);
    // The backward pass recomputes the scores, then dV, dP, dQ and dK: five products for two of the forward pass.
    let flops = if backward { forward * 5 / 2 } else { forward };
    let (out, qkv) = (heads * head_dim, (heads + 2 * kv_heads) * head_dim);
    let words = if backward { 2 * qkv + 2 * out } else { qkv + out };
    let bytes = 4 * (shape.step_tokens() * words) as u64;
    KernelCase { group: Group::Attention, name, flops, bytes, operation: Operation::Attention { shape: shape.clone(), backward } }
}

fn norm(rows: usize, width: usize, backward: bool) -> KernelCase {
    let (flops, passes) = if backward { (15, 3) } else { (4, 2) };
    KernelCase {
        group: Group::Norm,
        name: format!("rmsnorm {} {rows}x{width}", direction(backward)),
        flops: flops * (rows * width) as u64,
        bytes: 4 * passes * (rows * width) as u64,
        operation: Operation::Norm { rows, width, backward },
    }
}

fn swiglu(rows: usize, width: usize, backward: bool) -> KernelCase {
    let (flops, passes) = if backward { (12, 5) } else { (6, 3) };
    KernelCase {
        group: Group::Swiglu,
        name: format!("swiglu {} {rows}x{width}", direction(backward)),
        flops: flops * (rows * width) as u64,
        bytes: 4 * passes * (rows * width) as u64,
        operation: Operation::Swiglu { rows, width, backward },
    }
}

fn loss(rows: usize, width: usize, vocab: usize, backward: bool) -> KernelCase {
    // Logits; in the backward pass also the gradients of hidden states and table. The logits need not leave the chip.
    let products = if backward { 3 } else { 1 };
    let tensors = if backward { 2 } else { 1 };
    KernelCase {
        group: Group::Loss,
        name: format!("loss head {} {rows}x{width}x{vocab}", if backward { "forward and backward" } else { "forward" }),
        flops: products * 2 * (rows * width * vocab) as u64,
        bytes: tensors * 4 * (rows * width + vocab * width) as u64,
        operation: Operation::Loss { rows, width, vocab, backward },
    }
}

impl KernelCase {
    /// A plan with filled buffers, kernels and bind groups, ready to run without parameters.
    pub fn plan(&self, gpu: &Gpu) -> Result<Plan, GpuError> {
        let mut tuning = gpu.tuning().clone();
        if let Operation::Matmul { units: false, .. } = self.operation {
            tuning = tuning.without(Variant::MatmulCooperative);
        }
        let mut builder = CaseBuilder { plan: PlanBuilder::new(&tuning), random: Vec::new(), words: Vec::new() };
        match &self.operation {
            Operation::Matmul { layout, m, n, k, .. } => builder.matmul(*layout, *m, *n, *k),
            Operation::Packed { dtype, transposed, m, n, k } => builder.packed(*dtype, *transposed, [*m, *n, *k]),
            Operation::Attention { shape, backward } => builder.attention(shape, *backward),
            Operation::Norm { rows, width, backward } => builder.norm(*rows, *width, *backward),
            Operation::Swiglu { rows, width, backward } => builder.swiglu(*rows, *width, *backward),
            Operation::Loss { rows, width, vocab, backward } => builder.loss(*rows, *width, *vocab, *backward),
        }
        builder.build(gpu)
    }

    /// Times the case.
    pub async fn measure(&self, gpu: &Gpu, effort: Effort) -> Result<Measurement, GpuError> {
        let memory_before = gpu.allocated();
        let plan = self.plan(gpu)?;
        let memory = gpu.allocated() - memory_before;
        let timing = clock::plan(gpu, &plan, &RunParams::default(), effort).await?;
        let KernelCase { group, name, flops, bytes, .. } = self.clone();
        let clock::Timing { seconds, timestamps } = timing;
        Ok(Measurement { group, name, seconds, flops, bytes, memory, tokens: 0, timestamps })
    }
}

/// A plan under construction, and the contents of its inputs.
struct CaseBuilder {
    plan: PlanBuilder,
    random: Vec<Tensor>,
    words: Vec<(Tensor, Vec<u32>)>,
}

impl CaseBuilder {
    /// A tensor of normally distributed numbers.
    fn input(&mut self, name: &str, words: usize) -> Tensor {
        let tensor = self.plan.persistent(name, words);
        self.random.push(tensor);
        tensor
    }

    fn output(&mut self, name: &str, words: usize) -> Tensor {
        self.plan.persistent(name, words)
    }

    fn constant(&mut self, name: &str, words: Vec<u32>) -> Tensor {
        let tensor = self.plan.persistent(name, words.len());
        self.words.push((tensor, words));
        tensor
    }

    fn build(self, gpu: &Gpu) -> Result<Plan, GpuError> {
        let sizes: Vec<usize> = self.random.iter().map(|t| self.plan.words(*t)).collect();
        let plan = self.plan.build(gpu)?;
        // A few thousand different numbers are as good as millions.
        let mut stream = Stream::new(1, 0xbe7c);
        let pattern: Vec<f32> = (0..4099).map(|_| stream.normal() as f32).collect();
        for (tensor, words) in self.random.iter().zip(sizes) {
            plan.write(*tensor, &pattern.iter().copied().cycle().take(words).collect::<Vec<f32>>())?;
        }
        for (tensor, words) in &self.words {
            plan.write(*tensor, words)?;
        }
        Ok(plan)
    }

    fn matmul(&mut self, layout: Layout, m: usize, n: usize, k: usize) {
        let (a, b, c) = (self.input("a", m * k), self.input("b", k * n), self.output("c", m * n));
        let [m, n, k] = [m, n, k].map(|s| Extent::fixed(s as u32));
        record_product(&mut self.plan, Product::whole(layout, [a, b, c], [m, n, k], Epilogue::Write));
    }

    /// `x w` or `x wᵀ`, where w is `[K, N]` or `[N, K]` as `dtype`.
    fn packed(&mut self, dtype: WeightDtype, transposed: bool, [m, n, k]: [usize; 3]) {
        // Ones in float formats, small codes in quantised ones.
        let word = match dtype {
            WeightDtype::F32 => 0x3f80_0000,
            WeightDtype::Bf16 => 0x3f80_3f80,
            WeightDtype::F16 => 0x3c00_3c00,
            WeightDtype::Q8 | WeightDtype::Q4 | WeightDtype::Q4Symmetric => 0x0102_0304,
        };
        let words = self.constant("codes", vec![word; n * k * dtype.bits() / 32]);
        let scales = match dtype {
            // The scale 1 and the minimum -7.5.
            WeightDtype::Q4 => Some(self.constant("scales", vec![0xc780_3c00; n * k / 32])),
            _ => dtype.is_quantised().then(|| self.input("scales", n * k / 32)),
        };
        let rows = if transposed { n } else { k };
        let w = Matrix::packed(Packed { dtype, words, scales }, rows as u32);
        let (x, y) = (self.input("a", m * k), self.output("c", m * n));
        let [m, n, k] = [m, n, k].map(|s| Extent::fixed(s as u32));
        match transposed {
            true => products::record_forward(&mut self.plan, x, &w, y, [m, n, k], Epilogue::Write),
            false => products::record_backward_input(&mut self.plan, x, &w, y, [m, k, n], Epilogue::Write),
        }
    }

    fn attention(&mut self, shape: &Shape, backward: bool) {
        let heads = Heads::new(shape.heads as u32, shape.kv_heads as u32, shape.head_dim as u32, None);
        let mut batch = PackedInputs::default();
        (0..shape.batch).for_each(|_| {
            batch.push(&vec![0; shape.tokens]);
        });
        let count = shape.step_tokens();
        let tokens = Extent::fixed(count as u32);
        let per_head = count * shape.head_dim;
        let total = (shape.heads + 2 * shape.kv_heads) * per_head;
        let qkv = self.input("qkv", total);
        let spans = self.constant("spans", bytemuck::cast_slice(&batch.spans).to_vec());
        let out = self.input("out", shape.heads * per_head);
        let stats = self.output("stats", count * shape.heads * 2);
        if !backward {
            return attention::record_forward(&mut self.plan, &heads, qkv, spans, out, stats, tokens);
        }
        let (dout, dqkv) = (self.input("dout", shape.heads * per_head), self.output("dqkv", total));
        attention::record_backward(&mut self.plan, &heads, attention::Backward { qkv, spans, out, stats, dout, dqkv }, tokens);
    }

    fn norm(&mut self, rows: usize, width: usize, backward: bool) {
        let norm = Norm::plain(width as u32, 1e-5);
        let (x, w) = (self.input("x", rows * width), self.input("w", width));
        let size = Extent::fixed(rows as u32);
        if !backward {
            let y = self.output("y", rows * width);
            return rmsnorm::record_forward(&mut self.plan, norm, x, w, y, size);
        }
        let (dy, dx) = (self.input("dy", rows * width), self.output("dx", rows * width));
        let dw = Some(self.output("dw", width));
        rmsnorm::record_backward(&mut self.plan, norm, rmsnorm::Backward { x, w, dy, dx, dw, accumulate: false }, size);
    }

    fn swiglu(&mut self, rows: usize, width: usize, backward: bool) {
        let gate_up = self.input("gate and up", 2 * rows * width);
        let size = Extent::fixed(rows as u32);
        if !backward {
            let y = self.output("y", rows * width);
            return swiglu::record_forward(&mut self.plan, gate_up, y, size, Gated::silu(width));
        }
        let (dy, dgate_up) = (self.input("dy", rows * width), self.output("d gate and up", 2 * rows * width));
        swiglu::record_backward(&mut self.plan, gate_up, dy, dgate_up, size, Gated::silu(width));
    }

    fn loss(&mut self, rows: usize, width: usize, vocab: usize, backward: bool) {
        let objective = |r: usize| TokenLoss::token((r % vocab) as u32, 1.0 / rows as f32);
        let objectives: Vec<TokenLoss> = (0..rows).map(objective).collect();
        let objectives: Vec<u32> = bytemuck::cast_slice(&objectives).to_vec();
        debug_assert_eq!(objectives.len(), rows * TOKEN_LOSS_WORDS);
        let table = self.input("table", vocab * width);
        let head = LossHead {
            hidden: self.input("hidden", rows * width),
            table: Matrix::full(table, vocab as u32),
            rows: self.constant("objectives", objectives),
            score_tokens: self.output("score tokens", 0),
            stats: self.output("stats", rows * STATS),
            count: Extent::fixed(rows as u32),
            width: width as u32,
            vocab: vocab as u32,
            scores: 0,
            chunk: loss_head::chunk_rows(vocab as u32, rows as u32, LOGITS_BYTES),
        };
        let gradient = backward.then(|| LossGradient {
            coefficients: self.output("score coefficients", 0),
            dhidden: self.output("d hidden", rows * width),
            dtable: Some(vec![FullChunk { rows: vocab as u32, tensor: self.output("d table", vocab * width) }]),
        });
        loss_head::record(&mut self.plan, head, gradient);
    }
}
