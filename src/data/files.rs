//! Reads files and folders: detects the format, unpacks archives and shuffles rows.

use std::path::{Path, PathBuf};

use super::read::{RowCollector, text_of_rows, utf8};
use super::unpack::{FileFormat, OpenedFile, ending, name_of, open};
use super::{DataError, Dataset, Reader, Result};
use crate::random::Stream;

/// The random stream for shuffling rows.
const SHUFFLE_STREAM: u64 = 0xDA7A << 32;

/// Endings of the data files in a folder. `.json` counts only in a folder without any of these, since it may be metadata.
const ENDINGS: [&str; 5] = ["jsonl", "ndjson", "csv", "tsv", "parquet"];

/// Words in file names that name a part of the data.
const SPLITS: [&str; 6] = ["train", "test", "valid", "dev", "eval", "unseen"];

impl Reader {
    /// Reads a file, all data files of a folder in the order of their names, or standard input (`-`). `.csv` and `.tsv` are CSV
    /// with a header; `.json`, `.jsonl` and `.ndjson` are JSON. Parquet, gzip and zstd are recognised by their first bytes. JSON
    /// that begins with `[` is one array; any other JSON has one object per line. Without such an ending, text that does not
    /// begin with a bracket and whose first line has a comma, semicolon or tab, or is a single name, is CSV.
    ///
    /// # Errors
    /// A missing file, a damaged archive, an unsupported format, a folder without data or with several splits, and the errors of
    /// [`Reader::read_str`].
    pub fn read_path(&self, path: &Path) -> Result<Dataset> {
        let Some(seed) = self.shuffle_seed else { return self.read_in_order(path) };
        let mut data = Reader { limit: None, ..self.clone() }.read_in_order(path)?;
        let mut stream = Stream::new(seed, SHUFFLE_STREAM);
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
        let mut dataset: Option<Dataset> = None;
        for file in files_of(path)? {
            let read = dataset.as_ref().map_or(0, |data| data.examples.len());
            let limit = self.limit.map(|limit| limit - read);
            if limit == Some(0) {
                break;
            }
            let part = Reader { limit, ..self.clone() }.read_file(&file)?;
            match &mut dataset {
                None => dataset = Some(part),
                Some(dataset) => {
                    dataset.examples.extend(part.examples);
                    dataset.bad.extend(part.bad);
                    if !dataset.format.contains(&part.format) {
                        dataset.format += &format!("; {}", part.format);
                    }
                }
            }
        }
        let dataset = dataset.ok_or_else(|| fault(path, "no data file in it", "put .jsonl, .csv or .parquet files there"))?;
        Ok(Dataset { file: path.display().to_string(), ..dataset })
    }

    fn read_file(&self, path: &Path) -> Result<Dataset> {
        let file = open(path, self.max_decompressed)?;
        let (name, file_format, packing) = (file.name.clone(), file.format, file.packing);
        let describe = |format: &str| packing.map_or(format.to_string(), |packing| format!("{format}, {packing}"));
        if file_format == FileFormat::Parquet {
            return self.read_parquet(file);
        }
        let bytes = file.all()?;
        let text = utf8(&name, &bytes)?;
        if file_format == FileFormat::Json {
            let data = self.read_str(&name, text)?;
            return Ok(Dataset { format: describe(&data.format), ..data });
        }
        let text = text_of_rows(&name, text)?;
        let data = self.read_csv(&name, file_format, text)?;
        Ok(Dataset { format: describe(&data.format), ..data })
    }

    #[cfg(feature = "csv")]
    fn read_csv(&self, name: &str, format: FileFormat, text: &str) -> Result<Dataset> {
        use super::csv;
        use super::delimiter::delimiter;
        let mut collector = RowCollector::new(self, name);
        let delimiter = delimiter(format, text.as_bytes());
        csv::rows(&mut collector, text, delimiter)?;
        collector.finish(match delimiter {
            b';' => "CSV with semicolons",
            b'\t' => "CSV with tabs",
            _ => "CSV",
        })
    }

    #[cfg(not(feature = "csv"))]
    fn read_csv(&self, name: &str, _: FileFormat, _: &str) -> Result<Dataset> {
        Err(super::csv_unsupported(name))
    }

    #[cfg(feature = "parquet")]
    fn read_parquet(&self, file: OpenedFile) -> Result<Dataset> {
        use super::written::ParsedRow;
        use super::{RowPosition, parquet};
        let name = file.name.clone();
        let mut collector = RowCollector::new(self, &name);
        let file = parquet::open(&name, bytes::Bytes::from(file.all()?))?;
        for (index, row) in parquet::rows(&name, file, None).enumerate() {
            if collector.is_full() {
                break;
            }
            collector.take(RowPosition::Row(index + 1), Ok(ParsedRow::from_fields(parquet::json_object(row?))))?;
        }
        collector.finish("Parquet")
    }

    #[cfg(not(feature = "parquet"))]
    fn read_parquet(&self, file: OpenedFile) -> Result<Dataset> {
        Err(super::parquet_unsupported(&file.name))
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
