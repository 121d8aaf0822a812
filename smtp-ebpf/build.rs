//! Rebuilds the kernel program when its linker changes.

fn main() {
    // Packets are not aligned, and without this feature (LLVM 22) every field is loaded byte by
    // byte: it halves the program. The kernel allows it where the CPU does (x86-64, arm64).
    println!("cargo:rustc-link-arg-bins=--cpu-features=+allows-misaligned-mem-access");
    // A linker of another LLVM makes another object from the same source. It is looked for once,
    // where PATH has it now; a linker that appears earlier on PATH later goes unnoticed.
    let linker = std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .map(|dir| dir.join("bpf-linker"))
        .find(|path| path.is_file());
    if let Some(linker) = linker {
        println!("cargo:rerun-if-changed={}", linker.display());
    }
}
