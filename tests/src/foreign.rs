//! Somebody else's XDP program.

use std::path::{Path, PathBuf};
use std::time::Duration;

use xtask::command;

const LIMIT: Duration = Duration::from_secs(60);

/// Passes everything, as LLVM text; `XDP_PASS` is 2 (linux/bpf.h).
const SOURCE: &str = r#"
target datalayout = "ORDER-m:e-p:64:64-i64:64-i128:128-n32:64-S128"
target triple = "TRIPLE"
define i32 @foreign(ptr %frame) section "xdp" {
  ret i32 2
}
"#;

/// Builds the program `foreign` in this folder and returns the path of its object, whose section is
/// `xdp`.
pub fn object(folder: &Path) -> PathBuf {
    let (order, triple) = if cfg!(target_endian = "big") {
        ("E", "bpfeb")
    } else {
        ("e", "bpfel")
    };
    let source = folder.join("foreign.ll");
    let object = folder.join("foreign.o");
    let text = SOURCE.replace("ORDER", order).replace("TRIPLE", triple);
    std::fs::write(&source, text).expect("written");
    let mut linker = command::tool("bpf-linker", ["--export", "foreign", "-o"]);
    command::output(linker.arg(&object).arg(&source), LIMIT).expect("an object");
    object
}
