use super::*;

fn write(dir: &Path, text: &str) -> Result<(), FileError> {
    fs::write(dir.join("a"), text).map_err(|e| FileError::io("write", dir, e))
}

fn replace(path: &Path, text: &str) -> Result<(), FileError> {
    replace_folder(path, |_| Ok(()), |new| write(new, text))
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn content(dir: &Path) -> String {
    fs::read_to_string(dir.join("a")).unwrap()
}

#[test]
fn folders_are_created_and_replaced() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x/model");
    for text in ["one", "two"] {
        replace(&path, text).unwrap();
        assert_eq!(content(&path), text);
        assert_eq!(names(path.parent().unwrap()), ["model"]);
    }
}

#[test]
fn folders_are_replaced_only_if_the_caller_agrees() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("model");
    fs::create_dir(&path).unwrap();
    let refuse = |dir: &Path| Err(FileError::in_the_way(dir.join("a"), "it is a thesis"));
    replace_folder(&path, refuse, |new| write(new, "an empty folder may be filled")).unwrap();
    let message = replace_folder(&path, refuse, |new| write(new, "new")).unwrap_err().to_string();
    assert!(message.contains("a is in the way: it is a thesis"), "{message}");
    assert_eq!((content(&path).as_str(), names(root.path())), ("an empty folder may be filled", vec!["model".to_string()]));
}

#[test]
fn a_failed_save_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("model");
    replace(&path, "good").unwrap();
    let failed = replace_folder(
        &path,
        |_| Ok(()),
        |new| {
            write(new, "half")?;
            Err(FileError::in_the_way("x", "stop"))
        },
    );
    assert!(failed.is_err());
    assert_eq!((content(&path).as_str(), names(root.path())), ("good", vec!["model".to_string()]));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_the_old_folder_stays() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("model");
    replace(&path, "good").unwrap();
    let full = Path::new("/dev/full");
    let fill = |_: &Path| fs::write(full, b"x").map_err(|e| FileError::io("write", full, e));
    let message = replace_folder(&path, |_| Ok(()), fill).unwrap_err().to_string();
    assert!(message.contains("no space left") && message.contains("untouched"), "{message}");
    assert_eq!((content(&path).as_str(), names(root.path())), ("good", vec!["model".to_string()]));
}

/// At each step of a swap a reader finds a whole folder: at once where names can be exchanged, otherwise after `recover`.
#[test]
fn a_reader_finds_a_whole_folder_at_every_step() {
    let unsupported: fn(&Path, &Path) -> io::Result<()> = |_, _| Err(io::ErrorKind::Unsupported.into());
    for (can_exchange, exchange) in [(true, exchange as fn(&Path, &Path) -> io::Result<()>), (false, unsupported)] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("m");
        replace(&path, "old").unwrap();
        let target = Target::of(&path).unwrap();
        let new = target.sibling(Sibling::New);
        fs::create_dir(&new).unwrap();
        write(&new, "new").unwrap();
        let mut seen = Vec::new();
        swap(&target, &new, exchange, &mut |step| {
            // A copy of the folders as a process killed at this step would leave them.
            let copy = tempfile::tempdir().unwrap();
            for name in names(root.path()) {
                fs::create_dir(copy.path().join(&name)).unwrap();
                fs::copy(root.path().join(&name).join("a"), copy.path().join(&name).join("a")).unwrap();
            }
            let copied = copy.path().join("m");
            if can_exchange && cfg!(target_os = "linux") {
                assert!(copied.exists(), "{step:?}");
            }
            recover(&copied).unwrap();
            let expected = if step == SwapStep::Before { "old" } else { "new" };
            assert_eq!(content(&copied), expected, "{step:?}");
            replace(&copied, "next").unwrap();
            assert_eq!((content(&copied).as_str(), names(copy.path())), ("next", vec!["m".to_string()]), "{step:?}");
            seen.push(step);
        })
        .unwrap();
        assert!(seen.contains(&SwapStep::Replaced) && (seen.contains(&SwapStep::OldMoved) || can_exchange), "{seen:?}");
        assert_eq!((content(&path).as_str(), names(root.path())), ("new", vec!["m".to_string()]));
    }
}

/// For each state that a killed process can leave: the next writer removes the leftovers and keeps other names.
#[test]
fn leftovers_are_removed_and_other_names_stay() {
    let cases: [(&[&str], Option<&str>); 6] = [
        (&["m", ".m.jurist-new-7"], Some("m")),
        (&[".m.jurist-new-7", ".m.jurist-old-7"], Some(".m.jurist-new-7")),
        (&["m", ".m.jurist-old-7"], Some("m")),
        (&[".m.jurist-old-7"], Some(".m.jurist-old-7")),
        (&[".m.jurist-new-7"], None),
        (&["m", "m.tmp-7", ".m.jurist-new-x", ".m.jurist-new-", "m.jurist-new-7"], Some("m")),
    ];
    for (before, survivor) in cases {
        let root = tempfile::tempdir().unwrap();
        for name in before {
            fs::create_dir(root.path().join(name)).unwrap();
            write(&root.path().join(name), name).unwrap();
        }
        let path = root.path().join("m");
        clean_up(&Target::of(&path).unwrap(), &Lock::beside(&path).unwrap()).unwrap();
        assert_eq!(path.exists().then(|| content(&path)).as_deref(), survivor, "{before:?}");
        let mut left = names(root.path());
        left.retain(|name| name != "m");
        let kept: Vec<&str> = if before.len() > 4 { before[1..].to_vec() } else { Vec::new() };
        assert_eq!(left.iter().collect::<std::collections::BTreeSet<_>>().len(), kept.len(), "{before:?}: {left:?}");
        assert!(kept.iter().all(|name| left.contains(&name.to_string())), "{before:?}: {left:?}");
    }
}

#[test]
fn one_writer_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("m");
    let fill = |new: &Path| {
        let message = replace(&path, "other").unwrap_err().to_string();
        assert!(message.contains("another jurist (process"), "{message}");
        write(new, "first")
    };
    replace_folder(&path, |_| Ok(()), fill).unwrap();
    assert_eq!((content(&path).as_str(), names(root.path())), ("first", vec!["m".to_string()]));
}

#[test]
fn a_removed_folder_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("m");
    replace(&path, "x").unwrap();
    remove_folder(&path).unwrap();
    assert!(names(root.path()).is_empty());
}

#[test]
fn only_leftovers_with_our_names_are_cleaned_up() {
    let root = tempfile::tempdir().unwrap();
    let ours = [".m-1.jurist-new-7", ".m-2.jurist-old-7", ".m-3.jurist-new-7", ".m-3.jurist-old-7", ".files.jurist-new-3"];
    let others = ["m-2", ".notes.jurist-new-7", "m-4.txt", "m-1.tmp-7"];
    for name in ours.into_iter().chain(others) {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    let lock = Lock::inside(root.path()).unwrap();
    clean(root.path(), &lock, |name| name.starts_with("m-")).unwrap();
    drop(lock);
    assert_eq!(names(root.path()), [".notes.jurist-new-7", "m-1.tmp-7", "m-2", "m-3", "m-4.txt"]);
}

#[test]
fn files_are_added_beside_others() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("notes"), "mine").unwrap();
    let add = |text: &'static str| {
        add_to_folder(root.path(), ("z", &|there| there.ends_with("z")), |new| {
            fs::write(new.join("b"), text).unwrap();
            fs::write(new.join("z"), text).unwrap();
            Ok::<_, FileError>(())
        })
    };
    add("1").unwrap();
    add("1").unwrap();
    let message = add("2").unwrap_err().to_string();
    assert!(message.contains("b is in the way"), "{message}");
    assert_eq!(names(root.path()), ["b", "notes", "z"]);
    assert_eq!(fs::read_to_string(root.path().join("b")).unwrap(), "1");
}

#[cfg(unix)]
#[test]
fn files_that_may_not_be_written_are_saved_too() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let fill = |new: &Path| {
        write(new, "x")?;
        fs::set_permissions(new.join("a"), fs::Permissions::from_mode(0o444)).map_err(|e| FileError::io("set", new, e))
    };
    let path = root.path().join("m");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    replace_folder(&path, |_| Ok(()), fill).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn paths_without_a_name_and_files_are_refused() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "file").unwrap();
    for path in [Path::new("/"), Path::new(".."), &root.path().join("a")] {
        assert!(replace(path, "x").is_err(), "{path:?}");
    }
}
