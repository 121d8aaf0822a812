//! A control group of memory with a limit, as the machine has it: version 2 of the interface
//! (Documentation/admin-guide/cgroup-v2.rst) or version 1 (cgroup-v1/memory.rst).
//!
//! Contract: it is gone when dropped, and one that an earlier run left is used again. Who is in it is
//! ended by nobody but the kernel.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// See the module.
pub struct MemoryGroup {
    folder: PathBuf,
    names: &'static Names,
}

/// The names of files in its folder.
struct Names {
    limit: &'static str,
    used: &'static str,
    events: &'static str,
    /// What takes the limit away.
    none: &'static str,
}

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    events: "memory.oom_control",
    none: "-1",
};
const V2: Names = Names {
    limit: "memory.max",
    used: "memory.current",
    events: "memory.events",
    none: "max",
};

impl MemoryGroup {
    /// A group without a limit.
    pub fn new(name: &str) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let (parent, names) = if root.join("cgroup.controllers").exists() {
            // The root's children have memory only where it hands it down.
            write(&root.join("cgroup.subtree_control"), "+memory");
            (root.to_owned(), &V2)
        } else {
            (root.join("memory"), &V1)
        };
        let folder = parent.join(name);
        if !folder.exists() {
            fs::create_dir(&folder)
                .unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        }
        let group = Self { folder, names };
        group.lift();
        group
    }

    /// Writes a program that enters the group and then is `program`.
    pub fn entering(&self, program: &Path, path: &Path) {
        let text = format!(
            "#!/bin/sh\necho $$ > {}\nexec {} \"$@\"\n",
            self.folder.join("cgroup.procs").display(),
            program.display()
        );
        fs::write(path, text).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode");
    }

    /// Bytes that those in the group have.
    pub fn used(&self) -> u64 {
        let text = read(&self.folder.join(self.names.used));
        text.trim().parse().expect("a number of bytes")
    }

    /// Lets them have no more than this.
    pub fn limit(&self, bytes: u64) {
        write(&self.folder.join(self.names.limit), &bytes.to_string());
    }

    /// Lets them have all there is.
    pub fn lift(&self) {
        write(&self.folder.join(self.names.limit), self.names.none);
    }

    /// How many processes the kernel has killed because of the limit.
    pub fn kills(&self) -> u64 {
        let text = read(&self.folder.join(self.names.events));
        let mut lines = text.lines();
        let kills = lines.find_map(|line| line.strip_prefix("oom_kill "));
        kills
            .expect("a count of kills")
            .parse()
            .expect("a number of kills")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // One that has somebody in it stays, and the next run takes it.
        let _ = fs::remove_dir(&self.folder);
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
