//! Rotation with real files: what is written is handed over once and in order.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::*;

/// A log with its writer, and what was read of it.
struct Scene {
    folder: tempfile::TempDir,
    written: u32,
    found: Vec<String>,
    follower: Option<Follower>,
    saved: String,
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self {
            folder: tempfile::tempdir().expect("a folder"),
            written: 0,
            found: Vec::new(),
            follower: None,
            saved: String::new(),
        };
        fs::write(scene.log(), "").expect("written");
        scene.follower = Some(Follower::open(&scene.log(), None).expect("open"));
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> PathBuf {
        self.path("mail.log")
    }

    /// Writes so many lines to a file, each with another number.
    fn write_to(&mut self, path: &Path, count: u32) {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .expect("open");
        for _ in 0..count {
            writeln!(file, "line {}", self.written).expect("written");
            self.written += 1;
        }
    }

    fn write(&mut self, count: u32) {
        let log = self.log();
        self.write_to(&log, count);
    }

    fn poll(&mut self) {
        let Self {
            follower, found, ..
        } = self;
        let follower = follower.as_mut().expect("a follower");
        while follower
            .poll(&mut |line| found.push(String::from_utf8_lossy(line).into_owned()))
            .expect("read")
        {}
    }

    fn rename(&self) {
        // As logrotate does: the oldest first.
        for number in (1..5).rev() {
            let (from, to) = (
                format!("mail.log.{number}"),
                format!("mail.log.{}", number + 1),
            );
            if self.path(&from).exists() {
                fs::rename(self.path(&from), self.path(&to)).expect("renamed");
            }
        }
        fs::rename(self.log(), self.path("mail.log.1")).expect("renamed");
    }

    fn copy_and_truncate(&self) {
        fs::copy(self.log(), self.path("mail.log.1")).expect("copied");
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(self.log())
            .expect("emptied");
    }

    fn stop(&mut self) {
        let follower = self.follower.take().expect("a follower");
        self.saved = serde_json::to_string(&follower.saved()).expect("JSON");
    }

    fn start(&mut self) {
        let saved: Saved = serde_json::from_str(&self.saved).expect("a position");
        let follower = Follower::open(&self.log(), Some(&saved)).expect("open");
        self.follower = Some(follower);
    }

    fn assert_all(&self) {
        let expected: Vec<_> = (0..self.written).map(|i| format!("line {i}")).collect();
        assert_eq!(self.found, expected);
        assert_eq!(self.counts().gaps, 0);
    }

    fn counts(&self) -> FollowCounts {
        self.follower.as_ref().expect("a follower").counts()
    }
}

/// Files changed at the same time have no order; those of a real rotation are hours apart.
fn wait() {
    std::thread::sleep(Duration::from_millis(20));
}

#[test]
fn a_file_that_grows_is_read_on() {
    let mut scene = Scene::new();
    for count in [3, 0, 20_000, 1] {
        scene.write(count);
        scene.poll();
    }
    scene.assert_all();
}

#[test]
fn what_was_there_before_is_not_read() {
    let mut scene = Scene::new();
    fs::write(scene.log(), "old\nhalf of an old").expect("written");
    scene.follower = Some(Follower::open(&scene.log(), None).expect("open"));
    let mut file = OpenOptions::new()
        .append(true)
        .open(scene.log())
        .expect("open");
    writeln!(file, " line").expect("written");
    scene.write(2);
    scene.poll();
    scene.assert_all();
}

#[test]
fn a_line_is_handed_over_when_it_is_whole() {
    let mut scene = Scene::new();
    let mut file = OpenOptions::new()
        .append(true)
        .open(scene.log())
        .expect("open");
    write!(file, "line").expect("written");
    scene.poll();
    assert!(scene.found.is_empty());
    // Over a restart as well.
    scene.stop();
    scene.start();
    scene.poll();
    writeln!(file, " 0").expect("written");
    scene.written = 1;
    scene.poll();
    scene.assert_all();
}

#[test]
fn a_rename_loses_nothing_that_is_written_to_the_old_file_afterwards() {
    let mut scene = Scene::new();
    scene.write(3);
    scene.poll();
    scene.write(2);
    scene.rename();
    let old = scene.path("mail.log.1");
    scene.poll();
    // The writer has not been told yet.
    scene.write_to(&old, 2);
    scene.poll();
    scene.write(0);
    scene.poll();
    // It has the old file still open.
    scene.write_to(&old, 1);
    scene.poll();
    scene.write(4);
    scene.poll();
    scene.assert_all();
    assert_eq!(scene.counts().renamed, 1);
}

#[test]
fn several_renames_between_two_looks_are_read_in_order() {
    let mut scene = Scene::new();
    scene.write(3);
    scene.poll();
    for _ in 0..3 {
        scene.write(2);
        wait();
        scene.rename();
    }
    scene.write(2);
    scene.poll();
    scene.assert_all();
}

#[test]
fn a_copy_is_read_where_the_log_was_emptied() {
    let mut scene = Scene::new();
    scene.write(3);
    scene.poll();
    scene.write(5);
    scene.copy_and_truncate();
    scene.write(2);
    scene.poll();
    scene.assert_all();
    assert_eq!(scene.counts().truncated, 1);
    // And grown beyond the old end at once.
    scene.write(5);
    scene.copy_and_truncate();
    scene.write(500);
    scene.poll();
    scene.assert_all();
    assert_eq!(scene.counts().truncated, 2);
}

#[test]
fn a_restart_goes_on_at_the_line_where_it_stopped() {
    let mut scene = Scene::new();
    scene.write(3);
    scene.poll();
    scene.stop();
    scene.write(2);
    scene.start();
    scene.poll();
    scene.assert_all();
}

#[test]
fn rotations_while_nobody_looks_lose_and_repeat_nothing() {
    for rotations in 1..4 {
        let mut scene = Scene::new();
        scene.write(3);
        scene.poll();
        scene.stop();
        for _ in 0..rotations {
            scene.write(2);
            wait();
            scene.rename();
        }
        scene.write(2);
        scene.start();
        scene.poll();
        scene.assert_all();
        // Nor does the writer of the last one.
        let old = scene.path("mail.log.1");
        scene.write_to(&old, 1);
        scene.poll();
        scene.assert_all();
    }
    let mut scene = Scene::new();
    scene.write(3);
    scene.poll();
    scene.stop();
    scene.write(2);
    scene.copy_and_truncate();
    scene.write(200);
    scene.start();
    scene.poll();
    scene.assert_all();
}

#[test]
fn a_restart_within_the_grace_reads_both_files_on() {
    let mut scene = Scene::new();
    scene.write(3);
    scene.rename();
    scene.poll();
    scene.write(1);
    scene.poll();
    scene.stop();
    let old = scene.path("mail.log.1");
    scene.write_to(&old, 1);
    scene.start();
    scene.poll();
    scene.write(1);
    scene.poll();
    scene.assert_all();
}

#[test]
fn a_stop_in_the_middle_of_old_files_goes_on_there() {
    let mut scene = Scene::new();
    scene.write(3);
    scene.poll();
    scene.stop();
    scene.write(2);
    wait();
    scene.rename();
    scene.write(2);
    scene.start();
    // Before anything was read.
    scene.stop();
    scene.start();
    scene.poll();
    scene.assert_all();
}

#[test]
fn a_log_that_comes_back_while_nobody_looks_is_not_missed() {
    let mut scene = Scene::new();
    scene.write(3);
    scene.poll();
    scene.stop();
    wait();
    scene.rename();
    // Stopped between the rename and the new file.
    scene.start();
    scene.poll();
    scene.stop();
    for _ in 0..2 {
        scene.write(2);
        wait();
        scene.rename();
    }
    scene.write(2);
    scene.start();
    scene.poll();
    scene.assert_all();
}

#[test]
fn a_rotation_in_the_middle_of_a_look_repeats_nothing() {
    for restart in [false, true] {
        let mut scene = Scene::new();
        scene.write(3);
        scene.poll();
        if restart {
            scene.stop();
        }
        scene.write(2);
        wait();
        scene.rename();
        scene.write(2);
        // The log is open by its name already when it gets another one.
        fs::hard_link(scene.log(), scene.path("mail.log.0")).expect("linked");
        if restart {
            scene.start();
        }
        scene.poll();
        scene.assert_all();
    }
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let mut scene = Scene::new();
    let pipe = |path: &Path| {
        let mode = nix::sys::stat::Mode::S_IRWXU;
        nix::unistd::mkfifo(path, mode).expect("a pipe");
    };
    pipe(&scene.path("mail.log.9"));
    scene.write(3);
    scene.rename();
    scene.write(1);
    scene.poll();
    scene.assert_all();
    fs::remove_file(scene.log()).expect("removed");
    pipe(&scene.log());
    let error = Follower::open(&scene.log(), None).expect_err("a pipe");
    assert!(error.to_string().contains("no regular file"), "{error}");
}

#[test]
fn what_cannot_be_found_is_a_gap() {
    let mut scene = Scene::new();
    scene.write(3);
    scene.poll();
    scene.stop();
    scene.write(2);
    scene.rename();
    let compressed = scene.path("mail.log.1.gz");
    fs::rename(scene.path("mail.log.1"), compressed).expect("renamed");
    scene.write(1);
    scene.start();
    scene.poll();
    assert_eq!(scene.found.last().map(String::as_str), Some("line 5"));
    assert_eq!(scene.found.len(), 4);
    assert_eq!(scene.counts().gaps, 1);
    // And so is a log that somebody emptied.
    fs::write(scene.log(), "").expect("emptied");
    scene.poll();
    assert_eq!((scene.counts().gaps, scene.counts().truncated), (2, 1));
}

#[test]
fn a_log_that_does_not_exist_yet_is_read_from_its_beginning() {
    let mut scene = Scene::new();
    fs::remove_file(scene.log()).expect("removed");
    scene.follower = Some(Follower::open(&scene.log(), None).expect("open"));
    scene.poll();
    scene.write(3);
    scene.poll();
    scene.assert_all();
}

#[test]
fn the_rest_of_a_line_that_is_too_long_stays_dropped_over_a_restart() {
    let mut scene = Scene::new();
    let mut file = OpenOptions::new()
        .append(true)
        .open(scene.log())
        .expect("open");
    write!(file, "{}", "x".repeat(100_000)).expect("written");
    scene.poll();
    assert_eq!(scene.counts().dropped, 1);
    scene.stop();
    writeln!(file, "line of an attacker").expect("written");
    scene.write(1);
    scene.start();
    scene.poll();
    scene.assert_all();
}
