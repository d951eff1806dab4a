//! Every operation on a GPU against `jurist::reference`: forward and backward, both kernel shapes, awkward sizes. The
//! gradient that flows in is random (an operation in the middle of a graph), and what is accumulated does not start at 0.

mod attention;
mod differences;
mod doctor;
mod loss;
mod matmul;
mod matrix_units;
mod norm;
mod optim;
mod pointwise;
mod sample;
mod variants;
