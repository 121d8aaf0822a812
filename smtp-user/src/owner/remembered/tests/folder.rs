//! The folder, and who may have put something there.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use super::super::{answers, routes};
use super::*;

#[test]
fn a_folder_that_is_not_ones_own_is_not_used() {
    let folder = folder();
    let path = folder.path();
    let why = |path: &Path| Folder::open(path).expect_err("no folder of ours");
    assert!(why(&path.join("none")).contains("install -d -m 700"));
    fs::write(path.join("file"), "").expect("written");
    why(&path.join("file"));
    let own = path.join("own");
    fs::create_dir(&own).expect("a folder");
    symlink(&own, path.join("link")).expect("a link");
    assert!(why(&path.join("link")).contains("no link"));
    fs::set_permissions(&own, fs::Permissions::from_mode(0o770)).expect("its mode");
    assert!(why(&own).contains("chmod 700"));
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).expect("its mode");

    // Neither is a file that is a link read, nor one written to; what is there is replaced.
    let opened = Folder::open(&own).expect("a folder");
    opened.write("a", b"x").expect("written");
    let elsewhere = path.join("elsewhere");
    fs::rename(own.join("a"), &elsewhere).expect("renamed");
    symlink(&elsewhere, own.join("a")).expect("a link");
    opened.read("a").expect_err("a link");
    symlink(&elsewhere, own.join("a.new")).expect("a link");
    opened.write("a", b"y").expect("written");
    assert_eq!(opened.read("a"), Ok(Some(b"y".to_vec())));
    assert!(
        fs::read(&elsewhere)
            .expect("a file")
            .windows(2)
            .any(|two| two == b"\nx")
    );
    fs::create_dir(own.join("b")).expect("a folder");
    opened.read("b").expect_err("no file");
    assert_eq!(opened.read("c"), Ok(None));

    // Who writes at the moment is not waited for.
    let lock = File::open(own.join("lock")).expect("the lock");
    let held = Flock::lock(lock, FlockArg::LockExclusiveNonblock).expect("the lock");
    opened.write("a", b"z").expect("nothing to say");
    assert_eq!(opened.read("a"), Ok(Some(b"y".to_vec())));
    drop(held);

    // A folder that is moved away is still the one that was opened.
    fs::rename(&own, path.join("moved")).expect("renamed");
    symlink(path, &own).expect("a link");
    opened.write("d", b"x").expect("written");
    assert!(path.join("moved/d").exists() && !path.join("d").exists());

    if geteuid().is_root() {
        // What root makes in the folder of another user is that user's.
        let moved = path.join("moved");
        chown(&moved, Some(1), Some(1)).expect("its owner");
        let opened = Folder::open(&moved).expect("a folder");
        opened.write("d", b"y").expect("written");
        assert_eq!(opened.read("d"), Ok(Some(b"y".to_vec())));
        assert_eq!(fs::metadata(moved.join("d")).expect("a file").uid(), 1);
        chown(moved.join("d"), Some(2), None).expect("its owner");
        opened.read("d").expect_err("of neither");
    }
}

#[test]
fn files_that_are_not_used_any_more_go() {
    let folder = folder();
    let opened = Folder::open(folder.path()).expect("a folder");
    for i in 0..70 {
        opened
            .write(&format!("routes-{i:02}.kept"), b"")
            .expect("written");
        let file = File::open(folder.path().join(format!("routes-{i:02}.kept"))).expect("a file");
        let changed = SystemTime::now() - (100 - i) * SECOND;
        file.set_modified(changed).expect("its time");
    }
    opened.write(answers::NAME, b"").expect("written");
    let left = || {
        let names = fs::read_dir(folder.path()).expect("a folder");
        names
            .filter(|name| {
                routes::is_name(&name.as_ref().expect("a name").file_name().to_string_lossy())
            })
            .count()
    };
    opened.tidy(routes::is_name, KEEP);
    assert_eq!(left(), 64);
    opened.tidy(routes::is_name, 50 * SECOND);
    // Those from 51 on are younger than that.
    assert_eq!(left(), 19);
    assert!(folder.path().join(answers::NAME).exists());
}
