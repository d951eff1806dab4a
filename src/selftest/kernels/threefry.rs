//! The random generator.

use super::KernelChecker;
use crate::gpu::{Dispatch, Extent, GpuError, Grid, KernelSpec, Param};
use crate::random::threefry2x32;

/// The published answers of Threefry-2x32, and further answers of the host's implementation.
pub async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    const KNOWN: [u32; 6] = [0x6b20_0159, 0x99ba_4efe, 0x1cb9_96fc, 0xbb00_2be7, 0xc492_3a9c, 0x483d_f7a0];
    let mut inputs: Vec<[u32; 4]> = vec![[0; 4], [u32::MAX; 4], [0x1319_8a2e, 0x0370_7344, 0x243f_6a88, 0x85a3_08d3]];
    inputs.extend((0..300u32).map(|i| [i.wrapping_mul(0x9e37_79b9), i, i / 7, i ^ 0xffff]));
    let mut test = checker.test_plan();
    let questions = test.words("questions", inputs.as_flattened());
    let answers = test.words("answers", &vec![0; inputs.len() * 2]);
    let size = Extent::fixed(inputs.len() as u32);
    test.plan.dispatch(Dispatch {
        kernel: KernelSpec::new("lib/threefry.wgsl", "answers", &[]),
        tensors: &[questions, answers],
        params: &[Param::Extent(size)],
        grid: Grid::Threads { size, per: 64 },
        flops: 1,
        work: size,
    });
    let found = test.build_and_run(&checker.gpu)?.read_words(answers).await?;
    let expected: Vec<u32> = inputs.iter().flat_map(|i| threefry2x32([i[0], i[1]], [i[2], i[3]])).collect();
    let wrong = found.iter().zip(&expected).position(|(a, b)| a != b);
    let what = wrong.map_or_else(|| format!("{} known answers", inputs.len()), |i| format!("the answer to {:x?}", inputs[i / 2]));
    checker.check("threefry", &what, wrong.is_none() && found.starts_with(&KNOWN));
    Ok(())
}
