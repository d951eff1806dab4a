//! Every operation on a GPU compared with `jurist::reference`: forward and backward, for CPU adapters and for GPUs, awkward
//! sizes. The incoming gradient is random, as in the middle of a graph, and accumulated outputs do not start at 0.

mod adamw;
mod add;
mod attention;
mod cached_attention;
mod column_squares;
mod differences;
mod doctor;
mod dropout;
mod embedding;
mod grad_norm;
mod loss_head;
mod matmul;
mod matmul_cooperative;
mod matmul_packed;
mod matmul_skinny;
mod matmul_staged;
mod rmsnorm;
mod rope;
mod rows;
mod sample;
mod swiglu;
mod threefry;
mod variants;
