//! The protocol that the finished cells followed, kept beside them as `cells/protocol.toml`. A finished cell is never run again,
//! so a protocol that was edited since would show figures of other settings under its own.

use std::path::PathBuf;

use super::comparison::Comparison;
use super::protocol::{CellId, Protocol, Run};
use super::tasks::includes;
use super::{CompareError, file_error};
use crate::files;

impl Comparison {
    fn kept_protocol_file(&self) -> PathBuf {
        self.results.join("cells").join("protocol.toml")
    }

    /// Checks that the protocol says of every finished cell what it said when that cell was made.
    ///
    /// # Errors
    /// It says something else of one, or the kept protocol cannot be read.
    pub fn check_finished_cells(&self) -> Result<(), CompareError> {
        let file = self.kept_protocol_file();
        if !file.is_file() {
            return Ok(());
        }
        let kept = Protocol::read(&file)?;
        let known = kept.cells()?;
        for cell in self.protocol.cells()?.into_iter().filter(|cell| self.is_done(cell) && known.contains(cell)) {
            let (then, now) = (kept.what_it_says_of(&cell)?, self.protocol.what_it_says_of(&cell)?);
            let Some((what, was, is)) = first_difference(&then, &now) else { continue };
            let found = format!(
                "this cell is finished, and the protocol has changed since: {what} was {was}, now it is {is}; give that back, or \
                 remove this file, and the cell is made again"
            );
            return Err(CompareError::Result { path: self.result_file(&cell), found });
        }
        Ok(())
    }

    /// Checks the finished cells, then keeps the protocol as it is now for those to come.
    ///
    /// # Errors
    /// As [`Comparison::check_finished_cells`], or the disk's.
    pub fn keep_protocol(&self) -> Result<(), CompareError> {
        self.check_finished_cells()?;
        let file = self.kept_protocol_file();
        let text = std::fs::read(&self.protocol.file).map_err(file_error("read the protocol", &self.protocol.file))?;
        if std::fs::read(&file).is_ok_and(|kept| kept == text) {
            return Ok(());
        }
        let folder = self.results.join("cells");
        std::fs::create_dir_all(&folder).map_err(file_error("create", &folder))?;
        Ok(files::write(&file, &text)?)
    }
}

/// What decides a cell's figures: names and values, in an order that depends on the names only.
type Statements = Vec<(String, String)>;

/// The first name whose values differ, with both.
fn first_difference<'a>(then: &'a Statements, now: &'a Statements) -> Option<(&'a str, &'a str, &'a str)> {
    let value =
        |all: &'a Statements, name: &str| all.iter().find(|(n, _)| n == name).map_or("not set", |(_, value)| value.as_str());
    let names = then.iter().chain(now).map(|(name, _)| name.as_str());
    names.map(|name| (name, value(then, name), value(now, name))).find(|(_, was, is)| was != is)
}

impl Protocol {
    /// Everything in the protocol that decides the figures of a cell. Titles do not.
    fn what_it_says_of(&self, cell: &CellId) -> Result<Statements, CompareError> {
        let method = self.method(&cell.method)?;
        let mut all: Statements = Vec::new();
        let mut say = |name: &str, value: String| all.push((name.into(), value));
        for (key, value) in self.settings_of(cell, method) {
            say(&key, value.to_string());
        }
        say("trained", method.trained.to_string());
        say("start", format!("{:?}", method.start));
        say("chains_from", format!("{:?}", method.chains_from));
        say("seed", self.seed(cell.run).to_string());
        if matches!(cell.run, Run::Seed(_)) {
            say("learning_rates", format!("{:?}", self.tuned_method(method)?.learning_rates));
        }
        match self.file_task(&cell.task) {
            None => {
                say("data_seed", self.data_seed.to_string());
                say("sizes", format!("{:?}", self.sizes()));
            }
            // The rows of its files are compared by `rows.json`.
            Some(task) => {
                let tests = task.tests.iter().filter(|set| includes(set.methods.as_ref(), &method.name));
                say("test sets", tests.map(|set| set.name.as_str()).collect::<Vec<_>>().join(", "));
            }
        }
        for way in self.ways.iter().filter(|way| includes(way.methods.as_ref(), &method.name)) {
            let judged =
                format!("temperature {}, chains {}, rows {:?}, sets {:?}", way.temperature, way.chains, way.rows, way.sets);
            say(&format!("way `{}`", way.name), judged);
        }
        Ok(all)
    }
}
