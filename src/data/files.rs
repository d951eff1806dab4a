//! Files and folders to rows: what kind of file it is, unpacked where it is packed.

use std::path::{Path, PathBuf};

use super::read::{Gather, rows_not_pages, utf8};
use super::unpack::{Kind, Opened, ending, name_of, open};
use super::{DataError, Dataset, Reader, Result};
use crate::random::Stream;

/// Keys the stream of shuffled files.
const PURPOSE: u64 = 0xDA7A << 32;

/// Endings of data files that a folder may hold; `.json` only where there is none of these, since it may be about them.
const ENDINGS: [&str; 5] = ["jsonl", "ndjson", "csv", "tsv", "parquet"];

/// How file names say which part of the data they are.
const SPLITS: [&str; 6] = ["train", "test", "valid", "dev", "eval", "unseen"];

impl Reader {
    /// Reads a file, all data files of a folder in the order of their names, or standard input (`-`). `.csv` and `.tsv` are CSV
    /// with a header, `.json`, `.jsonl` and `.ndjson` JSON; Parquet, gzip and zstd are known by their first bytes. Of JSON, what
    /// begins with `[` is one array and everything else one object a line. Without such an ending, rows that do not begin with a
    /// bracket and have a comma, semicolon or tab in their first line, or one name alone, are CSV.
    ///
    /// # Errors
    /// No such file, a damaged archive, a kind of file that is not read, a folder without data or with several splits, and
    /// everything [`Reader::read_str`] lists.
    pub fn read_path(&self, path: &Path) -> Result<Dataset> {
        let Some(seed) = self.shuffle_seed else { return self.read_in_order(path) };
        let mut data = Reader { limit: None, ..self.clone() }.read_in_order(path)?;
        let mut stream = Stream::new(seed, PURPOSE);
        for last in (1..data.examples.len()).rev() {
            data.examples.swap(last, stream.below(last + 1));
        }
        data.examples.truncate(self.limit.unwrap_or(usize::MAX));
        Ok(data)
    }

    fn read_in_order(&self, path: &Path) -> Result<Dataset> {
        if !path.is_dir() {
            return self.read_file(path);
        }
        let mut whole: Option<Dataset> = None;
        for file in files_of(path)? {
            let read = whole.as_ref().map_or(0, |data| data.examples.len());
            let limit = self.limit.map(|limit| limit - read);
            if limit == Some(0) {
                break;
            }
            let part = Reader { limit, ..self.clone() }.read_file(&file)?;
            match &mut whole {
                None => whole = Some(part),
                Some(whole) => {
                    whole.examples.extend(part.examples);
                    whole.bad.extend(part.bad);
                    if !whole.format.contains(&part.format) {
                        whole.format += &format!("; {}", part.format);
                    }
                }
            }
        }
        let whole = whole.ok_or_else(|| fault(path, "no data file in it", "put .jsonl, .csv or .parquet files there"))?;
        Ok(Dataset { file: path.display().to_string(), ..whole })
    }

    fn read_file(&self, path: &Path) -> Result<Dataset> {
        let file = open(path, self.max_decompressed)?;
        let (name, kind, packing) = (file.name.clone(), file.kind, file.packing);
        let packed = |format: &str| packing.map_or(format.to_string(), |packing| format!("{format}, {packing}"));
        if kind == Kind::Parquet {
            return self.read_parquet(file);
        }
        let bytes = file.all()?;
        let text = utf8(&name, &bytes)?;
        if kind == Kind::Json {
            let data = self.read_str(&name, text)?;
            return Ok(Dataset { format: packed(&data.format), ..data });
        }
        let text = rows_not_pages(&name, text)?;
        let data = self.read_csv(&name, kind, text)?;
        Ok(Dataset { format: packed(&data.format), ..data })
    }

    #[cfg(feature = "csv")]
    fn read_csv(&self, name: &str, kind: Kind, text: &str) -> Result<Dataset> {
        use super::csv;
        use super::delimiter::delimiter;
        let mut gather = Gather::new(self, name);
        let delimiter = delimiter(kind, text.as_bytes());
        csv::rows(&mut gather, text, delimiter)?;
        gather.finish(match delimiter {
            b';' => "CSV with semicolons",
            b'\t' => "CSV with tabs",
            _ => "CSV",
        })
    }

    #[cfg(not(feature = "csv"))]
    fn read_csv(&self, name: &str, _: Kind, _: &str) -> Result<Dataset> {
        Err(super::without_csv(name))
    }

    #[cfg(feature = "parquet")]
    fn read_parquet(&self, file: Opened) -> Result<Dataset> {
        use super::written::Parsed;
        use super::{RowPosition, parquet};
        let name = file.name.clone();
        let mut gather = Gather::new(self, &name);
        let file = parquet::open(&name, bytes::Bytes::from(file.all()?))?;
        for (index, row) in parquet::rows(&name, file, None).enumerate() {
            if gather.full() {
                break;
            }
            gather.take(RowPosition::Row(index + 1), Ok(Parsed::of(parquet::object(row?))))?;
        }
        gather.finish("Parquet")
    }

    #[cfg(not(feature = "parquet"))]
    fn read_parquet(&self, file: Opened) -> Result<Dataset> {
        Err(super::without_parquet(&file.name))
    }
}

fn fault(path: &Path, found: &str, fix: &str) -> DataError {
    DataError::File { file: name_of(path), found: found.into(), fix: fix.into() }
}

/// The data files of a folder.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|error| fault(folder, &error.to_string(), "check the path"))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect();
    files.sort();
    let any = files.iter().any(|file| ENDINGS.contains(&ending(file).as_str()));
    files.retain(|file| if any { ENDINGS.contains(&ending(file).as_str()) } else { ending(file) == "json" });
    let name = |file: &PathBuf| file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let split = |file: &PathBuf| SPLITS.into_iter().find(|split| name(file).contains(split));
    let mut splits: Vec<&str> = files.iter().filter_map(split).collect();
    splits.sort_unstable();
    splits.dedup();
    if splits.len() > 1 {
        let found = format!("a folder with several parts of the data ({})", splits.join(", "));
        return Err(fault(folder, &found, "name one file, or put each part in a folder of its own"));
    }
    Ok(files)
}
