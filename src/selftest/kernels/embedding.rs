//! Token embedding.

use super::Bench;
use crate::gpu::{Extent, GpuError};
use crate::ops::embedding::{self, Embedding};
use crate::ops::matrix::{FullChunk, Matrix};
use crate::ops::weight_dtype::WeightDtype;
use crate::reference::embedding as spec;
use crate::selftest::rig::random;
use crate::selftest::stored::{self, Stored};

/// Rows by value and by vec4; packed tables; tables in chunks.
pub(super) async fn checks(b: &mut Bench) -> Result<(), GpuError> {
    embedding(b, 7, 6).await?;
    embedding(b, 7, 8).await?;
    for dtype in WeightDtype::PACKED {
        stored_table(b, Stored { dtype, cuts: &[13] }, 64).await?;
    }
    for dtype in [WeightDtype::F32, WeightDtype::Q8] {
        stored_table(b, Stored { dtype, cuts: &[16, 16, 5] }, 64).await?;
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
pub async fn embedding(b: &mut Bench, live: usize, width: usize) -> Result<(), GpuError> {
    let vocab = 31;
    let all: [u32; 11] = [5, 2, 5, 9, 30, 2, 5, 0, 30, 7, 5];
    let ids = &all[..live];
    let (table, dy, start) = (random(vocab * width, 1), random(all.len() * width, 2), random(vocab * width, 3));
    let sorted = embedding::buckets(ids);
    let mut rig = b.rig();
    let tokens = Extent::dynamic(rig.live(live as u32), all.len() as u32);
    let distinct = Extent::dynamic(rig.live(sorted.buckets.len() as u32), all.len() as u32);
    let gids = rig.words("ids", &all);
    let buckets = rig.words("buckets", &[sorted.buckets.concat(), vec![0; 44 - 4 * sorted.buckets.len()]].concat());
    let order = rig.words("order", &[sorted.tokens, vec![0; all.len() - live]].concat());
    let (gtable, gdy) = (rig.floats("table", &table), rig.floats("dy", &dy));
    let (y, dtable) = (rig.output("y", all.len() * width), rig.floats("dtable", &start));
    let rows = vocab as u32;
    embedding::forward(&mut rig.plan, gids, &Matrix::full(gtable, rows), y, tokens, doubled(width));
    embedding::backward(&mut rig.plan, (buckets, order), gdy, &[FullChunk { rows, tensor: dtable }], distinct, doubled(width));
    let ran = rig.start(&b.gpu)?;
    let (y, gdtable) = (ran.read_floats(y).await?, ran.read_floats(dtable).await?);
    b.live_exact("embedding", &format!("y, {live} tokens"), &y, &twice(&spec::gather(&table, ids, width)));
    let mut expected = start;
    spec::scatter_add(&mut expected, ids, &twice(&dy[..live * width]), width);
    b.gradient("embedding backward", &format!("dtable, {live} tokens"), &gdtable, &expected);
    Ok(())
}

/// Rows of a stored table of `width` columns, some of them twice, from every chunk; of a table in f32 the gradient too.
pub async fn stored_table(b: &mut Bench, how: Stored<'_>, width: usize) -> Result<(), GpuError> {
    let last = how.rows() as u32 - 1;
    let ids = [4, 0, last, 4, 7, last / 2];
    let (values, dy, start) =
        (stored::blocks(how.rows() * width, 5), random(ids.len() * width, 6), random(how.rows() * width, 7));
    let mut rig = b.rig();
    let (table, decoded) = stored::matrix(&mut rig, &how, &values, width);
    let (gids, y) = (rig.words("ids", &ids), rig.output("y", ids.len() * width));
    embedding::forward(&mut rig.plan, gids, &table, y, Extent::fixed(ids.len() as u32), doubled(width));
    let sorted = embedding::buckets(&ids);
    let order = (rig.words("buckets", sorted.buckets.as_flattened()), rig.words("order", &sorted.tokens));
    let (gdy, dtable) = (rig.floats("dy", &dy), stored::chunks(&mut rig, how.cuts, &start, width));
    embedding::backward(&mut rig.plan, order, gdy, &dtable, Extent::fixed(sorted.buckets.len() as u32), doubled(width));
    let ran = rig.start(&b.gpu)?;

    let operation = format!("embedding{}", how.name());
    let decoded: Vec<f64> = decoded.into_iter().map(|x| f64::from(x as f32)).collect();
    let expected = twice(&spec::gather(&decoded, &ids, width));
    b.exact(&operation, &format!("rows of {width}"), &ran.read_floats(y).await?, &expected);
    if how.dtype == WeightDtype::F32 {
        let mut found = Vec::new();
        for chunk in &dtable {
            found.extend(ran.read_floats(chunk.tensor).await?);
        }
        let mut expected = start;
        spec::scatter_add(&mut expected, &ids, &twice(&dy), width);
        b.gradient(&format!("embedding backward{}", how.name()), &format!("rows of {width}"), &found, &expected);
    }
    Ok(())
}
