//! Scores rows, or both halves of pairs, in blocks. Each block is written as soon as it is done: to standard output, to a file
//! that can be resumed after an interruption, or only to this process.
//!
//! The rows of a block are scored together, and blocks do not depend on each other, so a resumed run writes the same bytes as one
//! without an interruption. A resumed run scores the last finished block again. The scores must be those in the file, so that
//! other weights, settings or adapters are noticed.
//!
//! Several ranks divide the blocks: see [`division`].

mod division;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::Path;

use serde_json::{Value, json};

use self::division::{Blocks, Judged, Others, judge_for_first};
use super::{CliError, Interrupt, TerminalProgress, print_rows};
use crate::data::{Example, columns_of};
use crate::files::{FileError, Growing, changes, open_stream};
use crate::judge::{Judge, JudgeError, JudgeSettings, ScoreOptions, ScoreRecord};
use crate::model::error::ModelError;
use crate::progress::Progress;
use crate::ranks::Ranks;
use crate::rollout::Until;
use crate::words::count;

/// A smaller difference of expected scores is rounding, by another adapter or other kernels.
const ROUNDING: f64 = 1e-4;

/// The rows to score, how, and the column of the judgement. `SIDES` judgements are made of a row.
pub struct Work<'a, const SIDES: usize> {
    pub judge: &'a Judge,
    pub judging: ScoreOptions,
    /// The rows as they are written.
    pub rows: &'a [Example],
    /// What is judged of each row: the row itself, or both halves of a pair, which have the random numbers of their row, as in the
    /// server and on the page.
    pub sides: [&'a [Example]; SIDES],
    /// What becomes of the judgements of a row.
    pub form: &'a dyn Form<SIDES>,
    /// The column for it.
    pub column: &'a str,
    /// The processes that judge together. Rank 0 writes.
    pub ranks: &'a Ranks,
    pub interrupt: &'a Interrupt,
}

/// How the judgements of a row are written.
pub trait Form<const SIDES: usize> {
    /// The command that writes so.
    fn command(&self) -> &'static str;

    /// The object of a row.
    fn write(&self, judged: &[ScoreRecord; SIDES]) -> Value;

    /// The judgements in an object; `None` if it is another one.
    fn read(&self, object: Value) -> Option<[ScoreRecord; SIDES]>;
}

/// One judgement a row, as it is.
pub struct Single;

impl Form<1> for Single {
    fn command(&self) -> &'static str {
        "jurist score"
    }

    fn write(&self, [judged]: &[ScoreRecord; 1]) -> Value {
        serde_json::to_value(judged).unwrap_or_default()
    }

    fn read(&self, object: Value) -> Option<[ScoreRecord; 1]> {
        Some([serde_json::from_value(object).ok()?])
    }
}

impl<const SIDES: usize> Work<'_, SIDES> {
    /// A row with its judgements as a line, without the line break.
    fn line(&self, row: &Example, judged: &[ScoreRecord; SIDES]) -> String {
        row.row.with_column(self.column, &self.form.write(judged))
    }

    /// Judges these rows. `None` when interrupted.
    fn judge(&self, rows: Range<usize>, progress: &mut dyn Progress) -> Result<Option<Judged<SIDES>>, CliError> {
        if self.interrupt.requested() {
            return Ok(None);
        }
        let Range { start: first, end } = rows;
        let judging = ScoreOptions { first_row: first, ..self.judging.clone() };
        let mut sides = Vec::new();
        for (side, rows) in self.sides.iter().enumerate() {
            let before = first * SIDES + side * (end - first);
            let done = |done: usize| progress.step(((before + done) / SIDES) as u64, f64::NAN);
            let until = Until { stop: || self.interrupt.requested(), done };
            match pollster::block_on(self.judge.judge(&rows[first..end], &judging, until)) {
                Err(JudgeError::Model(ModelError::Stopped)) if self.interrupt.requested() => return Ok(None),
                judged => sides.push(judged?.into_iter().map(|row| row.record)),
            }
        }
        let mut of_row = |_| std::array::from_fn(|side| sides[side].next().unwrap_or_default());
        Ok(Some((first..end).map(&mut of_row).collect()))
    }
}

/// Where scored rows are written.
pub enum Sink<'a> {
    /// Nowhere: they are only measured.
    None,
    Printed,
    /// A pipe or a device.
    Stream(&'a Path, Option<File>),
    Kept(Box<Kept<'a>>),
}

/// A file of rows.
pub struct Kept<'a> {
    path: &'a Path,
    resume: bool,
    file: Growing,
}

impl<'a> Sink<'a> {
    /// Opens the output before the work, so that a problem with it is reported first. Of several ranks only the first writes.
    ///
    /// # Errors
    /// A path that cannot be written to; rows of an interrupted command, without `resume`.
    pub fn open(path: &'a Path, resume: bool, ranks: &Ranks) -> Result<Self, CliError> {
        if !ranks.is_first() {
            return Ok(Sink::None);
        }
        let Some(file) = Growing::open(path)? else {
            return match resume {
                true => Err(CliError::Usage(format!("--resume: {} is no file, so no rows are kept there", path.display()))),
                false => Ok(Sink::Stream(path, None)),
            };
        };
        let stopped = file.note().filter(|note| is_record(note)).and(file.earlier());
        if let (Some(left), false) = (file.left_over().or(stopped), resume) {
            let problem = format!(
                "it holds the rows of a command that was interrupted; continue with --resume, or remove {} to score all rows again",
                left.display()
            );
            return Err(FileError::in_the_way(left, problem).into());
        }
        Ok(Sink::Kept(Box::new(Kept { path, resume, file })))
    }

    /// What an interrupted command does with its rows before it stops, for the message.
    pub fn at_interrupt(&self) -> &'static str {
        match self {
            Sink::None => "stopping; without --output no rows are kept",
            Sink::Printed | Sink::Stream(..) => "stopping after the rows that are written",
            Sink::Kept(_) => "keeping the rows that are done",
        }
    }

    fn put(&mut self, lines: &str) -> Result<(), CliError> {
        match self {
            Sink::None => Ok(()),
            Sink::Printed => print_rows(lines),
            Sink::Stream(path, stream) => {
                let mut file = match stream.take() {
                    Some(file) => file,
                    None => open_stream(path)?,
                };
                file.write_all(lines.as_bytes()).map_err(|e| match e.kind() {
                    std::io::ErrorKind::BrokenPipe => CliError::Output { source: e },
                    _ => FileError::io("write", *path, e).into(),
                })?;
                *stream = Some(file);
                Ok(())
            }
            Sink::Kept(kept) => Ok(kept.file.append(lines)?),
        }
    }
}

/// How many rows were scored, and how many could not be.
#[derive(Debug, Default)]
pub struct ScoreCounts {
    pub rows: usize,
    pub failed: usize,
    pub first_error: Option<String>,
}

impl ScoreCounts {
    /// Warns how many rows could not be judged, if some could.
    pub fn warn(&self, progress: &mut TerminalProgress) {
        if let Some(error) = &self.first_error {
            progress.warn(&format!("{} of {} could not be judged, the first: {error}", self.failed, count(self.rows, "row")));
        }
    }

    fn add(&mut self, judged: &[ScoreRecord]) {
        self.rows += 1;
        if let Some(error) = judged.iter().find_map(|judged| judged.error.as_ref()) {
            self.failed += 1;
            self.first_error.get_or_insert_with(|| error.clone());
        }
    }
}

/// Judges all rows, or those that an earlier command left, and hands the judgements of each to `take` in the order of the rows.
/// Other ranks than the first only judge for it; on them this returns `None`, and takes and writes nothing.
///
/// # Errors
/// What judging or writing reports, and an interruption. In each case finished rows are kept, and the message says where. Rows in
/// the file that this judge would write differently. A rank has failed.
pub fn judge_rows<const SIDES: usize>(
    work: &Work<SIDES>,
    mut sink: Sink,
    progress: &mut TerminalProgress,
    mut take: impl FnMut([ScoreRecord; SIDES]),
) -> Result<Option<ScoreCounts>, CliError> {
    if !work.ranks.is_first() {
        let blocks = work.ranks.broadcast_value(Blocks::default())?;
        judge_for_first(work.ranks, blocks, |rows| work.judge(rows, progress))?;
        return Ok(None);
    }
    let mut tally = ScoreCounts::default();
    let ended = judge_blocks(work, &mut sink, progress, &mut |judged| {
        tally.add(&judged);
        take(judged);
    });
    progress.end();
    match (ended, sink) {
        (Ok(true), Sink::Kept(kept)) => kept.finish(&tally, progress)?,
        (Ok(true), _) => {}
        (Ok(false), sink) => return Err(CliError::Stopped(sink.stop(tally.rows, work.rows.len())?)),
        (Err(error), Sink::Kept(kept)) if kept.file.is_begun() => {
            // The first error is the one to report.
            if let Ok(line) = Sink::Kept(kept).stop(tally.rows, work.rows.len()) {
                progress.warn(&line);
            }
            return Err(error);
        }
        (Err(error), _) => return Err(error),
    }
    Ok(Some(tally))
}

/// False when interrupted.
fn judge_blocks<const SIDES: usize>(
    work: &Work<SIDES>,
    sink: &mut Sink,
    progress: &mut TerminalProgress,
    take: &mut dyn FnMut([ScoreRecord; SIDES]),
) -> Result<bool, CliError> {
    let block = work.judging.rows_of_a_block();
    let record = way_of_judging(work.judge.settings(), &work.judging);
    let earlier = match sink {
        Sink::Kept(kept) if kept.resume => kept.read_earlier(work, &record, (block, &mut *progress), take)?,
        _ => Earlier::none(),
    };
    let blocks = Blocks { rows: work.rows.len(), size: block, first: earlier.lines.saturating_sub(1) / block };
    if let Some(line) = blocks.fewer_than(work.ranks.size()) {
        progress.warn(&line);
    }
    let blocks = work.ranks.broadcast_value(blocks)?;
    progress.begin("judging", earlier.lines as u64, work.rows.len() as u64);
    let mut others = Others::new(work.ranks, blocks);
    let ended = judge_all(work, (blocks, &mut others), (sink, &record, earlier), progress, take);
    // An error ends the others too, but for one that only ends the output.
    if ended.as_ref().map_or_else(CliError::is_orderly, |_| true) {
        others.end()?;
    }
    ended
}

/// Judges all blocks, or has them judged, and writes them. False when interrupted.
fn judge_all<const SIDES: usize>(
    work: &Work<SIDES>,
    (blocks, others): (Blocks, &mut Others),
    (sink, record, mut earlier): (&mut Sink, &Value, Earlier<SIDES>),
    progress: &mut TerminalProgress,
    take: &mut dyn FnMut([ScoreRecord; SIDES]),
) -> Result<bool, CliError> {
    for n in blocks.numbers() {
        let rows = blocks.rows_of(n);
        let judged = match blocks.judge_of(n, work.ranks.size()) {
            0 => {
                others.go_on(n)?;
                work.judge(rows.clone(), progress)?
            }
            rank => others.judged(rank)?,
        };
        let Some(judged) = judged else { return Ok(false) };
        let known = std::mem::take(&mut earlier.last_block);
        if let Sink::Kept(kept) = sink
            && n == blocks.first
        {
            kept.check_last_block(&known, &judged, (rows.start, &mut *progress))?;
            let text = serde_json::to_string_pretty(record).unwrap_or_default() + "\n";
            kept.file.begin(earlier.bytes, &text, is_record)?;
        }
        let new = || work.rows[rows.clone()].iter().zip(&judged).skip(known.len());
        let lines: String = new().map(|(row, judged)| work.line(row, judged) + "\n").collect();
        sink.put(&lines)?;
        new().for_each(|(_, judged)| take(judged.clone()));
        progress.step(rows.end as u64, f64::NAN);
    }
    Ok(true)
}

/// The rows that an earlier command left.
struct Earlier<const SIDES: usize> {
    lines: usize,
    bytes: u64,
    /// Its judgements of its last block.
    last_block: Vec<[ScoreRecord; SIDES]>,
}

impl<const SIDES: usize> Earlier<SIDES> {
    fn none() -> Self {
        Earlier { lines: 0, bytes: 0, last_block: Vec::new() }
    }
}

impl Sink<'_> {
    /// Stops with `done` of `total` rows. Returns a text that says where they are.
    fn stop(self, done: usize, total: usize) -> Result<String, CliError> {
        let kept = match self {
            Sink::Kept(kept) => {
                let earlier = kept.file.earlier().filter(|_| kept.resume && done > 0).map(Path::to_path_buf);
                kept.file.stop()?.or(earlier)
            }
            _ => {
                return Ok(format!(
                    "{done} of {} were judged; with --output FILE they are kept, and --resume continues",
                    count(total, "row")
                ));
            }
        };
        Ok(match kept {
            None => "no rows were done yet".into(),
            Some(file) => format!("{done} of {} are kept in {}; continue with --resume", count(total, "row"), file.display()),
        })
    }
}

impl Kept<'_> {
    /// Gives the file its final name. If no row could be judged, an earlier file is kept instead.
    fn finish(self, tally: &ScoreCounts, progress: &mut TerminalProgress) -> Result<(), CliError> {
        if tally.failed < tally.rows || !self.file.replaces() {
            return Ok(self.file.finish()?);
        }
        progress.warn(&format!(
            "{} stays as it was: no row could be judged, and rows without a score are not kept",
            self.path.display()
        ));
        Ok(self.file.discard()?)
    }

    /// Reads the rows in the file, and checks that they are the first of these rows, scored with these settings.
    fn read_earlier<const SIDES: usize>(
        &self,
        work: &Work<SIDES>,
        record: &Value,
        (block, progress): (usize, &mut TerminalProgress),
        take: &mut dyn FnMut([ScoreRecord; SIDES]),
    ) -> Result<Earlier<SIDES>, CliError> {
        let mut found = Earlier::none();
        let Some(path) = self.file.earlier() else {
            progress.note(&format!("{} holds no rows to continue from: starting from the beginning", self.path.display()));
            return Ok(found);
        };
        match self.file.note().filter(|note| is_record(note)) {
            Some(note) => refuse_other_settings(path, &note, record)?,
            // An unfinished file of ours has its record from the first byte on.
            None if self.file.left_over() == Some(path) => {
                return Err(FileError::in_the_way(path, "jurist did not write it; move it away").into());
            }
            None => {}
        }
        let failed = |e| FileError::io("read", path, e);
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let mut line = Vec::new();
        // A line without a line break was cut off.
        while file.read_until(b'\n', &mut line).map_err(failed)? > 0 && line.ends_with(b"\n") {
            let judged = self.earlier_row(path, &line[..line.len() - 1], (found.lines, work))?;
            if found.lines.is_multiple_of(block) {
                found.last_block.clear();
            }
            found.last_block.push(judged.clone());
            take(judged);
            (found.lines, found.bytes) = (found.lines + 1, found.bytes + line.len() as u64);
            line.clear();
        }
        progress.note(&format!("{} of {} are in {} already", found.lines, count(work.rows.len(), "row"), path.display()));
        Ok(found)
    }

    /// The judgements in line `n` of the file, which must be row `n` with judgements, as it would be written now.
    fn earlier_row<const SIDES: usize>(
        &self,
        path: &Path,
        line: &[u8],
        (n, work): (usize, &Work<SIDES>),
    ) -> Result<[ScoreRecord; SIDES], CliError> {
        let fail = |found: String| {
            let advice = "give the input that it was made from, or score all rows again into another --output";
            CliError::Failed(format!("{}, row {}: {found}; {advice}", path.display(), n + 1))
        };
        let Some(row) = work.rows.get(n) else {
            return Err(fail(format!("the input has only {}", count(work.rows.len(), "row"))));
        };
        let object = columns_of(line).and_then(|mut row| row.remove(work.column));
        let Some(judged) = object.and_then(|object| work.form.read(object)) else {
            return Err(fail(format!("it is no row that {} wrote, with an object `{}`", work.form.command(), work.column)));
        };
        match work.line(row, &judged).as_bytes() == line {
            true => Ok(judged),
            false => Err(fail(format!("it is not the row at {}", row.row.location()))),
        }
    }

    /// Compares the judgements that are `there` with those that were just made of the same rows.
    fn check_last_block<const SIDES: usize>(
        &self,
        there: &[[ScoreRecord; SIDES]],
        now: &[[ScoreRecord; SIDES]],
        (first_row, progress): (usize, &mut TerminalProgress),
    ) -> Result<(), CliError> {
        let mut rounded = 0_usize;
        for (n, (there, now)) in there.iter().zip(now).enumerate() {
            let close = |there: &ScoreRecord, now: &ScoreRecord| {
                let near = there.expected.zip(now.expected).is_some_and(|(a, b)| (a - b).abs() < ROUNDING);
                near && (there.decoded, &there.feedback) == (now.decoded, &now.feedback)
            };
            let changed: Vec<_> = there.iter().zip(now).filter(|(there, now)| there != now).collect();
            if let Some((there, now)) = changed.iter().find(|(there, now)| !close(there, now)) {
                return Err(CliError::Failed(format!(
                    "{}, row {}: {}: these rows come from another judge, other settings or another input; give the same ones, or score \
                     all rows again into another --output",
                    self.path.display(),
                    first_row + n + 1,
                    difference(there, now)
                )));
            }
            rounded += usize::from(!changed.is_empty());
        }
        if rounded > 0 {
            progress.warn(&format!(
                "{} of {} came from another adapter or other kernels: results agree to rounding, not byte for byte",
                count(rounded, "row"),
                self.path.display()
            ));
        }
        Ok(())
    }
}

/// The first difference between a judgement in the file and the one that was just made.
fn difference(there: &ScoreRecord, now: &ScoreRecord) -> String {
    let score = |j: &ScoreRecord| match (j.expected, &j.error) {
        (Some(expected), _) => expected.to_string(),
        (None, error) => format!("no score ({})", error.as_deref().unwrap_or_default()),
    };
    match () {
        () if there.feedback != now.feedback => "it has another chain than this judge gives".into(),
        () if there.expected != now.expected || there.error != now.error => {
            format!("it has {}, and this judge gives {}", score(there), score(now))
        }
        () if there.decoded != now.decoded => "it has another decoded score than this judge gives".into(),
        () => "its distribution is not what this judge gives".into(),
    }
}

/// The settings that decide how rows are judged.
pub fn way_of_judging(settings: &JudgeSettings, judging: &ScoreOptions) -> Value {
    settings.append_to(json!({
        "jurist": env!("CARGO_PKG_VERSION"),
        "expectation": judging.expectation,
        "chains": judging.chains,
        "temperature": judging.chain_temperature(),
        "seed": judging.seed,
        "batch_size": judging.batch_size,
        "max_length": Some(judging.max_length).filter(|most| *most != usize::MAX),
        "given_chains": judging.given_chains,
    }))
}

/// Whether a text is such a record.
fn is_record(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|record| record["jurist"].is_string() && record["batch_size"].is_u64())
}

/// Refuses to continue with other settings than those of the rows in the file, and names them.
fn refuse_other_settings(path: &Path, before: &str, now: &Value) -> Result<(), CliError> {
    match changes(before, now) {
        None => Ok(()),
        Some(changes) => Err(CliError::Failed(format!(
            "{} was begun with other settings: {changes}; give the same ones, or score all rows again into another --output",
            path.display()
        ))),
    }
}
