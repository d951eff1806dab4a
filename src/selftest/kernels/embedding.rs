//! Token embedding.

use super::KernelChecker;
use crate::gpu::{Extent, GpuError};
use crate::ops::embedding::{self, Embedding};
use crate::ops::matrix::{FullChunk, Matrix};
use crate::ops::weight_dtype::WeightDtype;
use crate::reference::embedding as reference;
use crate::selftest::stored::{self, Stored};
use crate::selftest::test_plan::random;

/// Rows by value and by vec4; packed tables; tables in chunks.
pub(super) async fn checks(checker: &mut KernelChecker) -> Result<(), GpuError> {
    embedding(checker, 7, 6).await?;
    embedding(checker, 7, 8).await?;
    for dtype in WeightDtype::PACKED {
        stored_table(checker, Stored { dtype, cuts: &[13] }, 64).await?;
    }
    for dtype in [WeightDtype::F32, WeightDtype::Q8] {
        stored_table(checker, Stored { dtype, cuts: &[16, 16, 5] }, 64).await?;
    }
    Ok(())
}

/// An embedding whose scale is seen, and rounds nothing.
fn doubled(width: usize) -> Embedding {
    Embedding { scale: 2.0, ..Embedding::plain(width) }
}

/// Twice the values.
fn twice(values: &[f64]) -> Vec<f64> {
    values.iter().map(|x| 2.0 * x).collect()
}

/// Forward and backward over the first `live` of eleven tokens; ids repeat, and some rows of the table have no token.
pub async fn embedding(checker: &mut KernelChecker, live: usize, width: usize) -> Result<(), GpuError> {
    let vocab = 31;
    let all: [u32; 11] = [5, 2, 5, 9, 30, 2, 5, 0, 30, 7, 5];
    let ids = &all[..live];
    let (table, dy, start) = (random(vocab * width, 1), random(all.len() * width, 2), random(vocab * width, 3));
    let sorted = embedding::buckets(ids);
    let mut test = checker.test_plan();
    let tokens = Extent::dynamic(test.run_param(live as u32), all.len() as u32);
    let distinct = Extent::dynamic(test.run_param(sorted.buckets.len() as u32), all.len() as u32);
    let gids = test.words("ids", &all);
    let buckets = test.words("buckets", &[sorted.buckets.concat(), vec![0; 44 - 4 * sorted.buckets.len()]].concat());
    let order = test.words("order", &[sorted.tokens, vec![0; all.len() - live]].concat());
    let (gtable, gdy) = (test.floats("table", &table), test.floats("dy", &dy));
    let (y, dtable) = (test.output("y", all.len() * width), test.floats("dtable", &start));
    let rows = vocab as u32;
    embedding::record_forward(&mut test.plan, gids, &Matrix::full(gtable, rows), y, tokens, doubled(width));
    embedding::record_backward(
        &mut test.plan,
        (buckets, order),
        gdy,
        &[FullChunk { rows, tensor: dtable }],
        distinct,
        doubled(width),
    );
    let built = test.build_and_run(&checker.gpu)?;
    let (y, gdtable) = (built.read_floats(y).await?, built.read_floats(dtable).await?);
    checker.compare_live_exact("embedding", &format!("y, {live} tokens"), &y, &twice(&reference::gather(&table, ids, width)));
    let mut expected = start;
    reference::scatter_add(&mut expected, ids, &twice(&dy[..live * width]), width);
    checker.compare_gradient("embedding backward", &format!("dtable, {live} tokens"), &gdtable, &expected);
    Ok(())
}

/// Rows of a stored table of `width` columns, some of them twice, from every chunk; of a table in f32 the gradient too.
pub async fn stored_table(checker: &mut KernelChecker, how: Stored<'_>, width: usize) -> Result<(), GpuError> {
    let last = how.rows() as u32 - 1;
    let ids = [4, 0, last, 4, 7, last / 2];
    let (values, dy, start) =
        (stored::blocks(how.rows() * width, 5), random(ids.len() * width, 6), random(how.rows() * width, 7));
    let mut test = checker.test_plan();
    let (table, decoded) = stored::matrix(&mut test, &how, &values, width);
    let (gids, y) = (test.words("ids", &ids), test.output("y", ids.len() * width));
    embedding::record_forward(&mut test.plan, gids, &table, y, Extent::fixed(ids.len() as u32), doubled(width));
    let sorted = embedding::buckets(&ids);
    let order = (test.words("buckets", sorted.buckets.as_flattened()), test.words("order", &sorted.tokens));
    let (gdy, dtable) = (test.floats("dy", &dy), stored::chunks(&mut test, how.cuts, &start, width));
    embedding::record_backward(&mut test.plan, order, gdy, &dtable, Extent::fixed(sorted.buckets.len() as u32), doubled(width));
    let built = test.build_and_run(&checker.gpu)?;

    let operation = format!("embedding{}", how.name());
    let decoded: Vec<f64> = decoded.into_iter().map(|x| f64::from(x as f32)).collect();
    let expected = twice(&reference::gather(&decoded, &ids, width));
    checker.compare_exact(&operation, &format!("rows of {width}"), &built.read_floats(y).await?, &expected);
    if how.dtype == WeightDtype::F32 {
        let mut found = Vec::new();
        for chunk in &dtable {
            found.extend(built.read_floats(chunk.tensor).await?);
        }
        let mut expected = start;
        reference::scatter_add(&mut expected, &ids, &twice(&dy), width);
        checker.compare_gradient(&format!("embedding backward{}", how.name()), &format!("rows of {width}"), &found, &expected);
    }
    Ok(())
}
