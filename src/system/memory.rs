//! The memory that this process may still allocate: that of the machine, and on Linux less if control groups or limits restrict
//! it.
//!
//! ```text
//! machine             what it could give without swapping
//! control groups      limit − (usage − inactive file cache), of the process's own group and of every group above it
//! /proc/self/limits   address space and data segment (ulimit -v, -d), less what is mapped already
//! ```
//!
//! A process above its group's limit is ended with SIGKILL, without a message. The kernel frees inactive file cache first, so
//! that counts as free; the rest of the usage is what other tools call the working set.

use std::path::{Path, PathBuf};

use sysinfo::{MemoryRefreshKind, System};

/// Bytes that this process may still allocate, less a tenth for other uses. `None` where the system does not say.
pub fn free_memory() -> Option<u64> {
    Some(least(machine(), Path::new("/"))? / 10 * 9)
}

/// What the whole machine could give.
fn machine() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    (system.total_memory() > 0).then(|| system.available_memory())
}

/// The least of what the machine has and of what the limits leave, out of the files below `root`.
fn least(machine: Option<u64>, root: &Path) -> Option<u64> {
    machine.into_iter().chain(left_by_groups(root)).chain(left_by_limits(root)).min()
}

/// The number after `name` at the start of a line of `file`.
fn number_of(file: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The number in a file that holds nothing else. `None` for `max`.
fn number_in(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The files of one version of control groups.
struct Version {
    /// The files with limits. A group without such a file has no limit.
    limits: &'static [&'static str],
    usage: &'static str,
    /// The key in `memory.stat`.
    inactive_file: &'static str,
}

const V1: Version =
    Version { limits: &["memory.limit_in_bytes"], usage: "memory.usage_in_bytes", inactive_file: "total_inactive_file " };

/// Above `memory.high` a process is slowed down until it makes hardly any progress, so that is a limit too.
const V2: Version = Version { limits: &["memory.max", "memory.high"], usage: "memory.current", inactive_file: "inactive_file " };

/// The bytes left in each control group with a memory limit, from the process's own group up to the root of the hierarchy.
fn left_by_groups(root: &Path) -> Vec<u64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mounts = std::fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
    let mut left = Vec::new();
    for line in groups.lines() {
        // `4:memory:/path`, or for version 2 `0::/path`.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let version = match controllers {
            "" => &V2,
            named if named.split(',').any(|controller| controller == "memory") => &V1,
            _ => continue,
        };
        if let Some(mount) = mounts.lines().find_map(|line| Mount::of(line, version)) {
            left.extend(mount.groups(root, path).iter().flat_map(|dir| left_by(dir, version)));
        }
    }
    left
}

/// The bytes left in one group, by each of its limits.
fn left_by(dir: &Path, version: &Version) -> Vec<u64> {
    let used = number_in(&dir.join(version.usage)).unwrap_or(0);
    let cache = number_of(&dir.join("memory.stat"), version.inactive_file).unwrap_or(0);
    let limits = version.limits.iter().filter_map(|file| number_in(&dir.join(file)));
    limits.map(|limit| limit.saturating_sub(used.saturating_sub(cache))).collect()
}

/// A mount of a hierarchy of control groups.
struct Mount {
    /// The group at the mount point.
    top: String,
    point: String,
}

impl Mount {
    /// Reads a line of `mountinfo`: `31 23 0:28 TOP POINT rw,relatime - cgroup cgroup rw,memory`.
    fn of(line: &str, version: &Version) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (top, point) = (unescape(before.next()?), unescape(before.next()?));
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1).unwrap_or_default());
        let fits = match kind {
            "cgroup2" => std::ptr::eq(version, &V2),
            "cgroup" => std::ptr::eq(version, &V1) && options.split(',').any(|option| option == "memory"),
            _ => false,
        };
        fits.then_some(Mount { top, point })
    }

    /// The folders of the group at `path` and of the groups above it, as far as they are visible.
    fn groups(&self, root: &Path, path: &str) -> Vec<PathBuf> {
        let top = root.join(self.point.trim_start_matches('/'));
        // In a container that sees the machine's group names, its own group is at the mount point.
        let below = path.strip_prefix(self.top.trim_end_matches('/')).unwrap_or_default();
        let names = below.split('/').filter(|name| !name.is_empty());
        // The process's group may be outside of the container's namespace.
        if names.clone().any(|name| name == "..") {
            return vec![top];
        }
        let mut dirs = vec![top];
        for name in names {
            let next = dirs[dirs.len() - 1].join(name);
            dirs.push(next);
        }
        dirs
    }
}

/// `mountinfo` writes spaces, tabs, line breaks and backslashes as octal numbers.
fn unescape(text: &str) -> String {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")]
        .into_iter()
        .fold(text.to_string(), |text, (code, character)| text.replace(code, character))
}

/// The bytes left by `ulimit -v` and `ulimit -d`.
fn left_by_limits(root: &Path) -> Vec<u64> {
    let status = root.join("proc/self/status");
    [("Max address space", "VmSize:"), ("Max data size", "VmData:")]
        .into_iter()
        .filter_map(|(limit, used)| {
            let limit = number_of(&root.join("proc/self/limits"), limit)?;
            Some(limit.saturating_sub(number_of(&status, used).unwrap_or(0) << 10))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// Free memory of a machine with 64 GiB, with these files below the root.
    fn free(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        least(Some(64 * GIB), root.path())
    }

    const V2_MOUNT: (&str, &str) =
        ("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");
    const V1_MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        32 31 0:29 TOP /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n35 31 0:32 TOP /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

    #[test]
    fn without_limits_the_memory_is_that_of_the_machine() {
        assert_eq!(free(&[]), Some(64 * GIB));
        assert_eq!(least(None, Path::new("/nowhere")), None);
        assert!(machine().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn limits_of_version_2_apply() {
        let own = ("proc/self/cgroup", "0::/\n");
        let group = [("sys/fs/cgroup/memory.max", "8589934592\n"), ("sys/fs/cgroup/memory.current", "3221225472\n")];
        // In a container with its own namespace, its group is the root.
        assert_eq!(free(&[own, V2_MOUNT, group[0], group[1]]), Some(5 * GIB));
        let cache = ("sys/fs/cgroup/memory.stat", "anon 1\nfile 2147483648\ninactive_file 2147483648\nactive_file 0\n");
        assert_eq!(free(&[own, V2_MOUNT, group[0], group[1], cache]), Some(7 * GIB));
        assert_eq!(free(&[own, V2_MOUNT, ("sys/fs/cgroup/memory.max", "max\n"), group[1]]), Some(64 * GIB));
        assert_eq!(free(&[own, V2_MOUNT, ("sys/fs/cgroup/memory.high", "1073741824\n")]), Some(GIB));
        // A usage above the limit, for example after the limit was lowered: 0 bytes are left, without wrapping around.
        assert_eq!(free(&[own, V2_MOUNT, ("sys/fs/cgroup/memory.max", "1024"), group[1]]), Some(0));
    }

    #[test]
    fn the_smallest_limit_of_nested_groups_applies() {
        let own = ("proc/self/cgroup", "0::/user.slice/run-1.scope/inner\n");
        let at = |dir: &str, max: u64, used: u64| {
            let file = |name: &str| format!("sys/fs/cgroup/{dir}/{name}");
            [(file("memory.max"), format!("{max}\n")), (file("memory.current"), format!("{used}\n"))]
        };
        let all = |groups: &[[(String, String); 2]]| {
            let files: Vec<(&str, &str)> = groups.iter().flatten().map(|(file, text)| (file.as_str(), text.as_str())).collect();
            free(&[&[own, V2_MOUNT][..], &files].concat())
        };
        let inner = at("user.slice/run-1.scope/inner", 20 * GIB, GIB);
        let scope = at("user.slice/run-1.scope", 4 * GIB, GIB);
        let slice = at("user.slice", 10 * GIB, 9 * GIB);
        assert_eq!(all(std::slice::from_ref(&inner)), Some(19 * GIB));
        assert_eq!(all(&[inner.clone(), scope.clone()]), Some(3 * GIB));
        assert_eq!(all(&[inner, scope, slice]), Some(GIB));
        assert_eq!(all(&[at("somebody.else", GIB, 0)]), Some(64 * GIB));
    }

    #[test]
    fn limits_of_version_1_apply_alone_and_beside_version_2() {
        // In Docker the group has its name on the machine, and the mount shows that group.
        for (top, path) in [("/docker/abc", "/docker/abc"), ("/", "/job"), ("/", "/")] {
            let mounts = V1_MOUNTS.replace("TOP", top);
            let dir = if path == "/job" { "sys/fs/cgroup/memory/job/" } else { "sys/fs/cgroup/memory/" };
            let file = |name: &str| format!("{dir}{name}");
            let groups = format!("8:cpu,cpuacct:/other\n4:hugetlb,memory:{path}\n0::/\n");
            let (limit, usage, stat) = (file("memory.limit_in_bytes"), file("memory.usage_in_bytes"), file("memory.stat"));
            let files = [
                ("proc/self/cgroup", groups.as_str()),
                ("proc/self/mountinfo", mounts.as_str()),
                (limit.as_str(), "2147483648\n"),
                (usage.as_str(), "1610612736\n"),
                (stat.as_str(), "inactive_file 7\ntotal_inactive_file 536870912\n"),
            ];
            assert_eq!(free(&files), Some(GIB), "{top} {path}");
            // "No limit" is written as the largest number of pages.
            let mut unlimited = files;
            unlimited[2].1 = "9223372036854771712\n";
            assert_eq!(free(&unlimited), Some(64 * GIB));
        }
        // Version 2 is mounted too, without a memory controller.
        let hybrid = V1_MOUNTS.replace("TOP", "/") + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let files = [("proc/self/cgroup", "4:memory:/a b\n0::/x\n"), ("proc/self/mountinfo", hybrid.as_str())];
        assert_eq!(free(&files), Some(64 * GIB));
        let limited = [&files[..], &[("sys/fs/cgroup/memory/a b/memory.limit_in_bytes", "1073741824")]].concat();
        assert_eq!(free(&limited), Some(GIB));
    }

    #[test]
    fn a_group_outside_of_the_namespace_has_the_limits_of_the_mount() {
        let files = [("proc/self/cgroup", "0::/../../other\n"), V2_MOUNT, ("sys/fs/cgroup/memory.max", "1073741824")];
        assert_eq!(free(&files), Some(GIB));
    }

    #[test]
    fn limits_of_the_process_apply() {
        let limits = |space: &str, data: &str| {
            format!(
                "Limit  Soft Limit  Hard Limit  Units\nMax data size  {data}  unlimited  bytes\nMax address space  {space}  unlimited  bytes\n"
            )
        };
        let status = ("proc/self/status", "VmPeak:\t 9 kB\nVmSize:\t 1048576 kB\nVmData:\t 524288 kB\n");
        for (space, data, left) in [
            ("unlimited", "unlimited", 64 * GIB),
            ("4294967296", "unlimited", 3 * GIB),
            ("unlimited", "1073741824", GIB / 2),
            ("1024", "1073741824", 0),
        ] {
            let text = limits(space, data);
            assert_eq!(free(&[("proc/self/limits", text.as_str()), status]), Some(left), "{space} {data}");
        }
    }
}
