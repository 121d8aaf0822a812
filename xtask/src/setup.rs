//! `cargo xtask setup`: makes the machine able to build the kernel program, and says what it chose.
//!
//! smtp-user's build script takes, in this order: the toolchain named in `SMTPFLOW_EBPF_TOOLCHAIN`, the
//! rustup toolchain `smtpflow-ebpf`, a nightly that has `rust-src`. The set-up looks in the same order.
//! What it finds complete, it leaves alone (route A, or an earlier run). Where no compiler is found, it
//! installs Debian's and links it under that name (route B). Where bpf-linker is missing, it builds one
//! against Debian's LLVM of the compiler's major. Everything is announced before it is done; a
//! bpf-linker that is there is never replaced; any other system is told what to install.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use xtask::command::{self, find, tool};

use crate::apt;
use crate::toolchain::{self, Compiler, LINKED, Linker, OVERRIDE, Release, leading_number};
use crate::workspace;

/// The bpf-linker that goes with this workspace's version of aya.
const LINKER: &str = "0.13.0";
/// The LLVM majors that it can be built for: its cargo features.
const LINKER_LLVM: std::ops::RangeInclusive<u32> = 21..=23;
/// Building bpf-linker takes 45 s on two cores.
const BUILD: Duration = Duration::from_secs(30 * 60);

/// Debian's compilers with the packages of their source, newest first: `rustc-web` is the one that
/// stable releases carry for browsers, far newer than their `rustc`.
const DEBIAN_COMPILERS: [DebianCompiler; 2] = [
    DebianCompiler {
        package: "rustc-web",
        source: "rust-web-src",
        library: "libstd-rust-web-",
    },
    DebianCompiler {
        package: "rustc",
        source: "rust-src",
        library: "libstd-rust-",
    },
];

#[derive(Debug, Clone, Copy)]
struct DebianCompiler {
    package: &'static str,
    source: &'static str,
    /// The start of the name of its library package, which depends on its LLVM.
    library: &'static str,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// Install Debian packages.
    Packages(Vec<String>),
    /// Give Debian's compiler its name in rustup.
    Link,
    /// Build and install bpf-linker against Debian's LLVM of this major.
    Linker(u32),
}

/// Makes the machine able to build. Does nothing, in well under a second, when it is.
pub fn run() -> Result<()> {
    ensure!(
        find("rustup").is_some(),
        "no rustup on PATH. smtpflow's kernel program is compiled by a second toolchain, which \
         rustup selects; the cargo of a distribution cannot do that.\n\
         Install rustup (https://rustup.rs, or a Debian package of that name), \
         then run `cargo xtask setup` again."
    );
    let steps = match selected()? {
        Some(compiler) => complete(&compiler)?,
        None => from_debian()?,
    };
    for step in &steps {
        perform(step)?;
    }
    let compiler = selected()?.with_context(|| {
        format!("the toolchain {LINKED} is not there although it was just linked")
    })?;
    let linker = Linker::find()?.context("bpf-linker is not there although it was installed")?;
    check(&compiler, &linker)?;
    println!("eBPF: {compiler} with {linker}");
    Ok(())
}

/// The compiler that the build script would take; `None` if there is none.
fn selected() -> Result<Option<Compiler>> {
    if let Some(name) = std::env::var_os(OVERRIDE) {
        let name = name.to_string_lossy();
        return Compiler::inspect(&name)
            .map(Some)
            .with_context(|| format!("{OVERRIDE} names it; unset it to let the set-up choose"));
    }
    let list = toolchain::installed()?;
    if list.iter().any(|name| name == LINKED) {
        return Compiler::inspect(LINKED).map(Some).with_context(|| {
            format!("remove it with `rustup toolchain uninstall {LINKED}` and run this again")
        });
    }
    if toolchain::has_nightly(&list) {
        let nightly = Compiler::inspect("nightly")?;
        return Ok(Some(nightly).filter(|compiler| compiler.has_source));
    }
    Ok(None)
}

/// What is missing beside a compiler that is there.
fn complete(compiler: &Compiler) -> Result<Vec<Step>> {
    ensure!(
        compiler.has_source,
        "{compiler} has no source of `core`, which the kernel program is built from.\n\
         Install it: Debian's package rust-web-src (or rust-src), or `rustup component add rust-src \
         --toolchain {}`",
        compiler.toolchain
    );
    ensure!(
        compiler.release >= Release::oldest(),
        "{compiler} is too old: this workspace needs rustc {} or newer.\n\
         Update it, or name another toolchain in {OVERRIDE}",
        Release::oldest()
    );
    match Linker::find()? {
        Some(linker) => check(compiler, &linker).map(|()| Vec::new()),
        None => {
            println!("eBPF: {compiler}; bpf-linker is missing");
            linker_steps(compiler.llvm, Vec::new())
        }
    }
}

/// A bpf-linker reads what rustc's LLVM wrote only if it has the same major; with another, it fails
/// with "Invalid record", or links and leaves broken BTF behind (aya-rs/bpf-linker#387, #352).
fn check(compiler: &Compiler, linker: &Linker) -> Result<()> {
    ensure!(
        compiler.llvm == linker.llvm,
        "{compiler} and the bpf-linker {linker} do not go together: their LLVM majors differ, and the \
         kernel program would be broken.\n\
         Either name a toolchain of LLVM {} in {OVERRIDE} (`rustc -vV` shows it), or replace \
         bpf-linker, which the set-up never does by itself:\n  {}",
        linker.llvm,
        linker_command(compiler.llvm)
    );
    Ok(())
}

fn linker_command(llvm: u32) -> String {
    format!(
        "LLVM_PREFIX=/usr/lib/llvm-{llvm} LIBRARY_PATH=/usr/lib/llvm-{llvm}/lib cargo install --locked \
         --force bpf-linker@{LINKER} --no-default-features --features llvm-{llvm}"
    )
}

/// The steps to a bpf-linker for `llvm`, with `packages` that are needed anyway.
fn linker_steps(llvm: u32, mut packages: Vec<String>) -> Result<Vec<Step>> {
    ensure!(
        LINKER_LLVM.contains(&llvm),
        "bpf-linker {LINKER} cannot be built for LLVM {llvm}: it knows {} to {}.\n\
         Name another toolchain in {OVERRIDE}, or install a bpf-linker for LLVM {llvm} yourself \
         (https://github.com/aya-rs/bpf-linker)",
        LINKER_LLVM.start(),
        LINKER_LLVM.end()
    );
    let development = format!("llvm-{llvm}-dev");
    if !Path::new(&format!("/usr/lib/llvm-{llvm}/include")).is_dir() {
        ensure!(
            find("apt-get").is_some() && known(&development)?,
            "bpf-linker is missing, and apt knows no package {development} to build it against.\n\
             Install a bpf-linker for LLVM {llvm} yourself: a release from \
             https://github.com/aya-rs/bpf-linker/releases, or with LLVM {llvm}'s development files \
             somewhere else:\n  {}",
            linker_command(llvm)
        );
        packages.push(development);
    }
    if find("cc").is_none() {
        packages.extend(["gcc", "libc6-dev"].map(str::to_owned));
    }
    let mut steps = Vec::new();
    if !packages.is_empty() {
        steps.push(Step::Packages(packages));
    }
    steps.push(Step::Linker(llvm));
    Ok(steps)
}

/// Route B: Debian's compiler.
fn from_debian() -> Result<Vec<Step>> {
    println!("eBPF: no toolchain yet that has the source of `core`; looking for Debian's compiler");
    ensure!(
        find("apt-get").is_some(),
        "{}",
        what_to_install("this is no Debian")
    );
    // Lists that are old or lack the security archive know only an old compiler, or none.
    let compiler = match recent() {
        Some(compiler) => compiler,
        None => {
            apt::update()?;
            recent().with_context(|| what_to_install(&no_recent()))?
        }
    };
    with_compiler(compiler)
}

/// The first of Debian's compilers that is new enough.
fn recent() -> Option<DebianCompiler> {
    DEBIAN_COMPILERS.into_iter().find(|compiler| {
        apt::candidate(compiler.package)
            .as_deref()
            .and_then(Release::parse)
            .is_some_and(|release| release >= Release::oldest())
            && apt::candidate(compiler.source).is_some()
    })
}

fn no_recent() -> String {
    let seen = DEBIAN_COMPILERS.map(|DebianCompiler { package, .. }| {
        let version = apt::candidate(package);
        format!("{package} {}", version.as_deref().unwrap_or("is not known"))
    });
    format!("this Debian has no recent compiler ({})", seen.join(", "))
}

fn with_compiler(compiler: DebianCompiler) -> Result<Vec<Step>> {
    let packages = [compiler.package, compiler.source].map(str::to_owned);
    let plan = apt::simulate(&packages)?;
    let llvm = debian_llvm(compiler, &plan)?;
    // What is installed already is not asked for again.
    let packages = packages
        .into_iter()
        .filter(|package| plan.installed.iter().any(|(name, _)| name == package))
        .collect::<Vec<_>>();
    let mut steps = match Linker::find()? {
        Some(linker) if linker.llvm == llvm => vec![Step::Packages(packages)],
        Some(linker) => bail!(
            "Debian's {} has LLVM {llvm}, but {linker} is on PATH, and the set-up never replaces \
             a bpf-linker. Remove it, or replace it yourself:\n  {}",
            compiler.package,
            linker_command(llvm)
        ),
        None => linker_steps(llvm, packages)?,
    };
    steps.retain(|step| !matches!(step, Step::Packages(packages) if packages.is_empty()));
    let position = steps
        .iter()
        .position(|step| matches!(step, Step::Linker(_)))
        .unwrap_or(steps.len());
    steps.insert(position, Step::Link);
    Ok(steps)
}

/// The LLVM major of Debian's compiler: from the compiler if it is installed, else from what its
/// library package depends on.
fn debian_llvm(compiler: DebianCompiler, plan: &apt::Simulation) -> Result<u32> {
    let library = plan.installed.iter().map(|(name, _)| name).find(|name| {
        name.strip_prefix(compiler.library)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    let text = match library {
        Some(library) => {
            let depends = apt::depends(library)?;
            return llvm_dependency(&depends).with_context(|| {
                format!("the package {library} does not say which LLVM it needs: {depends}")
            });
        }
        None => command::output(
            &mut tool("/usr/bin/rustc", ["-vV"]),
            Duration::from_secs(60),
        )?,
    };
    text.lines()
        .find_map(|line| leading_number(line.strip_prefix("LLVM version: ")?))
        .context("cannot read the LLVM version of /usr/bin/rustc")
}

/// The 22 of "libc6 (>= 2.34), libllvm22, libstdc++6 (>= 11)".
fn llvm_dependency(depends: &str) -> Option<u32> {
    depends
        .split(',')
        .find_map(|part| leading_number(part.trim().strip_prefix("libllvm")?))
}

/// Whether apt knows a package; its lists are fetched first if it does not.
fn known(package: &str) -> Result<bool> {
    if apt::candidate(package).is_some() {
        return Ok(true);
    }
    apt::update()?;
    Ok(apt::candidate(package).is_some())
}

fn perform(step: &Step) -> Result<()> {
    match step {
        Step::Packages(packages) => {
            let plan = apt::simulate(packages)?;
            println!("eBPF: installing Debian's {}", plan.describe(packages));
            apt::install(packages, &plan)
        }
        Step::Link => {
            println!("eBPF: naming Debian's compiler: rustup toolchain link {LINKED} /usr");
            command::output(
                &mut tool("rustup", ["toolchain", "link", LINKED, "/usr"]),
                Duration::from_secs(60),
            )
            .map(drop)
        }
        Step::Linker(llvm) => {
            println!(
                "eBPF: building bpf-linker {LINKER} with LLVM {llvm} (cargo install, about a minute)"
            );
            let prefix = format!("/usr/lib/llvm-{llvm}");
            let mut command = workspace::cargo(&[
                "install",
                "--locked",
                &format!("bpf-linker@{LINKER}"),
                "--no-default-features",
                "--features",
                &format!("llvm-{llvm}"),
            ])?;
            command
                .env("LLVM_PREFIX", &prefix)
                .env("LIBRARY_PATH", format!("{prefix}/lib"))
                // Its many dependencies have no place in this workspace's target folder.
                .env_remove("CARGO_TARGET_DIR");
            command::succeed(&mut command, &workspace::log("bpf-linker")?, BUILD)
        }
    }
}

fn what_to_install(why: &str) -> String {
    let oldest = Release::oldest();
    format!(
        "cannot install an eBPF toolchain by itself: {why}.\n\
         The kernel program needs a rustc of at least {oldest} with the source of `core`, and a \
         bpf-linker of the same LLVM major. Install one of these and run `cargo xtask setup` again:\n\
         \n  A. rustup toolchain install nightly --component rust-src\n     \
         and a bpf-linker for the LLVM that `rustc +nightly -vV` names:\n     \
         https://github.com/aya-rs/bpf-linker/releases, or\n     \
         cargo install --locked bpf-linker@{LINKER} --no-default-features --features llvm-N\n\
         \n  B. on Debian 12 or newer with its security archive: rustc-web rust-web-src llvm-N-dev\n     \
         (the set-up does the rest)\n\
         \n  C. a toolchain of your own, named in {OVERRIDE}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(llvm: u32, has_source: bool, release: &str) -> Compiler {
        Compiler {
            toolchain: "some".into(),
            release: Release::parse(release).expect("a release"),
            llvm,
            has_source,
        }
    }

    #[test]
    fn the_llvm_of_a_debian_compiler_is_in_its_dependencies() {
        let depends = "libc6 (>= 2.34), libgcc-s1 (>= 4.2), libllvm22, libstdc++6 (>= 11)";
        assert_eq!(llvm_dependency(depends), Some(22));
        assert_eq!(llvm_dependency("libllvm19 (>= 1:19.1), libc6"), Some(19));
        assert_eq!(llvm_dependency("libc6"), None);
    }

    #[test]
    fn a_linker_of_another_major_is_refused_with_the_way_out() {
        let linker = |llvm| Linker {
            path: "/x/bpf-linker".into(),
            llvm,
        };
        assert!(check(&compiler(22, true, "1.96.0"), &linker(22)).is_ok());
        let error = check(&compiler(22, true, "1.96.0"), &linker(23)).expect_err("22 is not 23");
        let text = format!("{error}");
        for part in ["LLVM 22", "LLVM 23", "llvm-22", OVERRIDE, "/x/bpf-linker"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_compiler_without_source_or_too_old_is_refused() {
        for (compiler, word) in [
            (compiler(22, false, "1.96.0"), "rust-src"),
            (compiler(19, true, "1.85.0"), "too old"),
        ] {
            let error = complete(&compiler).expect_err(word);
            assert!(format!("{error}").contains(word), "{error}");
        }
    }

    #[test]
    fn an_llvm_that_bpf_linker_does_not_know_is_refused() {
        let error = linker_steps(99, Vec::new()).expect_err("LLVM 99");
        assert!(format!("{error}").contains("LLVM 99"), "{error}");
    }
}
