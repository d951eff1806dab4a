//! `jurist compare` on a protocol of seconds: cells, tables and page are made, what is finished stays, and one cell made
//! again has the same bytes.

use crate::cli::{Done, finish, jurist, path, succeed};

const PROTOCOL: &str = r#"
seeds = [1, 2]
data_seed = 1
sizes = { train = 60, validation = 10, test = 12 }
tuning = { task = "H", seed = 9 }
imitation = { max_steps = 2, per_device_train_batch_size = 8 }
policy = { max_steps = 1, per_device_train_batch_size = 4, num_generations = 4 }
[[method]]
name = "sft"
title = "SFT"
settings = { method = "sft" }
learning_rates = [1e-3, 3e-3]
[[method]]
name = "cot-raft"
title = "CoT-RAFT"
settings = { method = "cot-raft" }
rate_of = "sft"
[[method]]
name = "tract"
title = "TRACT"
settings = { method = "tract" }
chains_from = "cot-raft"
rate_of = "sft"
[[method]]
name = "real"
title = "REAL"
settings = { method = "real" }
start = "sft"
learning_rates = [1e-4]
[[group]]
name = "core"
title = "All"
tasks = ["E"]
methods = ["sft", "cot-raft", "tract", "real"]
champion = "real"
"#;

#[test]
fn cells_tables_and_page() {
    let dir = tempfile::tempdir().unwrap();
    let protocol = crate::cli::write(dir.path().join("protocol.toml"), PROTOCOL);
    let work = dir.path().join("work");
    let compare = |more: &[&str]| -> Done {
        finish(jurist(&[&["compare", "--config", path(&protocol), "--work", path(&work)][..], more].concat()))
    };
    // Killed while a process of its own makes a cell: that one ends too, and the command can be given again at once.
    let mut killed = jurist(&["compare", "--config", path(&protocol), "--work", path(&work)]).spawn().unwrap();
    while !work.exists() {
        assert!(killed.try_wait().unwrap().is_none(), "ended before it began");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let all = compare(&["--jobs", "2"]);
    assert_eq!(all.code, Some(0), "{}", all.err);
    assert!(all.out.contains("10 of 10 cells are done") && all.out.contains("**REAL minus each**"), "{}", all.out);
    let cell = dir.path().join("cells/E/real/seed-1.json");
    let bytes = std::fs::read(&cell).unwrap();
    let page = std::fs::read_to_string(dir.path().join("index.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("REAL minus each") && !page.contains("NaN"), "{page}");

    // Nothing is left to do; one cell, made again with all that it builds on, is the same.
    assert!(compare(&[]).err.contains("0 cells to run"));
    std::fs::remove_dir_all(&work).unwrap();
    std::fs::remove_file(&cell).unwrap();
    let one = compare(&["--cell", "E/real/seed-1"]);
    assert_eq!(one.code, Some(0), "{}", one.err);
    assert!(std::fs::read(&cell).unwrap() == bytes, "one cell, made twice, has two results");

    // A protocol that changed under finished cells is refused, by tables too; one that says more is not.
    for (from, to, message) in [
        ("max_steps = 2", "max_steps = 3", "max_steps was 2, now it is 3"),
        ("test = 12", "test = 14", "sizes was"),
        ("[1e-3, 3e-3]", "[1e-3, 4e-3]", "learning_rates was"),
    ] {
        crate::cli::write(&protocol, PROTOCOL.replacen(from, to, 1));
        for more in [&[][..], &["--tables"]] {
            let changed = compare(more);
            assert_eq!(changed.code, Some(1));
            assert!(changed.err.contains(message) && changed.err.contains("remove this file"), "{}", changed.err);
        }
    }
    crate::cli::write(&protocol, PROTOCOL.replacen("title = \"SFT\"", "title = \"imitation\"", 1));
    assert!(compare(&["--tables"]).out.contains("imitation"));

    // What is gone is made; what cannot be read is named.
    crate::cli::write(&cell, "{");
    let broken = compare(&["--tables"]);
    assert_eq!(broken.code, Some(1));
    assert!(broken.err.contains("seed-1.json") && broken.err.contains("remove it"), "{}", broken.err);
}

#[test]
fn protocols_and_cells_that_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let protocol = crate::cli::write(dir.path().join("protocol.toml"), PROTOCOL.replace("start = \"sft\"", "start = \"stf\""));
    let fail = |args: &[&str], code: i32, message: &str| {
        let done = finish(jurist(&[&["compare"][..], args].concat()));
        assert_eq!(done.code, Some(code), "{}", done.err);
        assert!(done.err.contains(message), "{}\nexpected {message}", done.err);
    };
    fail(&["--config", path(&protocol)], 2, "refers to `stf`");
    let (_, group) = PROTOCOL.split_at(PROTOCOL.find("[[group]]").unwrap());
    let twice = crate::cli::write(dir.path().join("twice.toml"), [PROTOCOL, group].concat());
    fail(&["--config", path(&twice)], 2, "group `core` is there twice");
    fail(&["--config", "no/such.toml"], 1, "no/such.toml");
    let good = crate::cli::write(dir.path().join("good.toml"), PROTOCOL);
    fail(&["--config", path(&good), "--cell", "E/real"], 1, "expected TASK/METHOD/seed-N");
    fail(&["--config", path(&good), "--cell", "E/ppo/seed-1"], 1, "no method `ppo` in the protocol");
    succeed(jurist(&["compare", "--config", path(&good), "--work", path(&dir.path().join("w")), "--tables"]));
}
