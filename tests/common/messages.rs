//! Tables of messages as snapshots: one file a table in `tests/messages`, what was asked and what was said. Words are changed by
//! `INSTA_UPDATE=always cargo test`, and reviewed as the change of that file.

use std::fmt::Display;
use std::path::Path;

/// What one test has been told.
pub struct Messages {
    name: &'static str,
    told: Vec<String>,
    /// Paths that are others in each run, with what stands for them.
    places: Vec<(String, &'static str)>,
}

impl Messages {
    /// The table in `tests/messages/NAME.snap`.
    pub fn new(name: &'static str) -> Self {
        Messages { name, told: Vec::new(), places: Vec::new() }
    }

    /// Writes `name` for this path.
    pub fn place(mut self, path: &Path, name: &'static str) -> Self {
        self.places.push((path.to_str().unwrap().to_string(), name));
        self
    }

    /// Adds what was said when that was asked.
    pub fn add(&mut self, asked: impl Display, said: &str) {
        assert!(!said.contains("panicked"), "{asked}: {said}");
        let mut told = format!("{asked}\n    {}\n", said.trim_end().replace('\n', "\n    "));
        self.places.iter().for_each(|(path, name)| told = told.replace(path, name));
        self.told.push(told);
    }

    /// Compares the table with the one that was reviewed.
    #[track_caller]
    pub fn check(self) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/messages");
        if cfg!(target_os = "linux") {
            let mut settings = insta::Settings::new();
            settings.set_snapshot_path(&folder);
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            return settings.bind(|| insta::assert_snapshot!(self.name, self.told.join("\n")));
        }
        // What the system says has other words elsewhere.
        let reviewed = std::fs::read_to_string(folder.join(format!("{}.snap", self.name))).unwrap().replace("\r\n", "\n");
        for told in self.told.iter().filter(|told| !told.contains("(os error ")) {
            assert!(reviewed.contains(&told.replace('\\', "/")) || reviewed.contains(told), "not in {}:\n{told}", self.name);
        }
    }
}
