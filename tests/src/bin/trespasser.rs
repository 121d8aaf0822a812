//! Tries to get at things that are not its own, and says what it could do.
//!
//! `trespasser PATH ...` as whoever it is run as; `trespasser --confined CONFIG PATH ...` as root, held to
//! what an agent with this configuration is held to. One line for each thing that worked: `VERB PATH`. It
//! ends well only if it has tried all.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use aya::programs::links::PinnedLink;
use nix::fcntl::{Flock, FlockArg};
use smtp_user::agent;
use smtp_user::config::Config;
use smtp_user::privilege::Confinement;

fn main() {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if_eq("--confined").is_some() {
        let file = PathBuf::from(words.next().expect("a configuration"));
        let config = Config::from_file(&file).unwrap_or_else(|failure| panic!("{failure}"));
        let rules = agent::rules(&config, Some(&file));
        let rules = rules.prepare().expect("rules");
        let confined = Confinement::new(None, Some(rules)).thread(false);
        eprintln!("{:?}", confined.expect("confined"));
    }
    for path in words.map(PathBuf::from) {
        let said = |verb: &str, worked: bool| {
            if worked {
                println!("{verb} {}", path.display());
            }
        };
        let inside = path.join("squatted");
        said("list", fs::read_dir(&path).is_ok());
        said("read", !path.is_dir() && File::open(&path).is_ok());
        said("lock", locks(&path));
        // Opens whatever is pinned, and asks afterwards what it is.
        said("open_pin", PinnedLink::from_pin(&path).is_ok());
        said("write", OpenOptions::new().write(true).open(&path).is_ok());
        said(
            "chmod",
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).is_ok(),
        );
        said("squat_directory", fs::create_dir(&inside).is_ok());
        said("squat_link", symlink("/", path.join("link")).is_ok());
        said("squat_file", File::create(path.join("file")).is_ok());
        said(
            "rename",
            fs::rename(&path, path.with_extension("gone")).is_ok(),
        );
        said("remove", fs::remove_file(&path).is_ok());
        said("remove_directory", fs::remove_dir(&path).is_ok());
    }
}

fn locks(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_ok())
}
