//! The Debian package. What it holds, `[package.metadata.deb]` of smtp-user says; here its generated parts
//! are made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use xtask::command::{self, tool};

use super::{BUILD, CARGO_DEB, QUICK, sbom};
use crate::{setup, workspace};

/// Arguments of `deb`.
#[derive(Debug, clap::Args)]
pub struct DebArgs {
    /// Without optimisations, for tests
    #[arg(long)]
    dev: bool,
}

impl DebArgs {
    /// Without optimisations.
    pub const fn dev() -> Self {
        Self { dev: true }
    }
}

/// Generated files: where they lie below the build's folder, and the words that print them.
const GENERATED: [(&str, &[&str]); 6] = [
    ("man/smtpflow.1", &["man", "smtpflow.1"]),
    ("man/smtpflow.toml.5", &["man", "smtpflow.toml.5"]),
    ("man/smtpflow-run.8", &["man", "smtpflow-run.8"]),
    ("completions/smtpflow.bash", &["completions", "bash"]),
    ("completions/smtpflow.zsh", &["completions", "zsh"]),
    ("completions/smtpflow.fish", &["completions", "fish"]),
];

/// Builds the package, and says where it is.
pub fn deb(args: &DebArgs) -> Result<()> {
    println!("{}", deb_file(args)?.display());
    Ok(())
}

/// Builds the package.
pub fn deb_file(args: &DebArgs) -> Result<PathBuf> {
    setup::run()?;
    let cargo_deb = CARGO_DEB.provide()?;
    let (profile, folder) = match args.dev {
        true => ("dev", "debug"),
        false => ("release", "release"),
    };
    let log = workspace::log("deb")?;
    let named = format!("--profile={profile}");
    let words = [
        "build",
        "--locked",
        "--package=smtp-user",
        "--bin=smtpflow",
        &named,
    ];
    command::succeed(&mut workspace::cargo(&words)?, &log, BUILD)?;

    let built = workspace::target()?.join(folder);
    let generated = built.join("deb");
    for (path, words) in GENERATED {
        let text = command::output(Command::new(built.join("smtpflow")).args(words), QUICK)?;
        write(&generated.join(path), &text)?;
    }
    write(&generated.join("sbom.cdx.json"), &sbom::document()?)?;
    // Without a name and a time, so that two packages are alike.
    let compressed = GENERATED.map(|(path, _)| path).into_iter();
    let compressed = compressed.filter(|path| path.starts_with("man/"));
    for path in compressed.chain(["sbom.cdx.json"]) {
        let gzip = ["--best", "--no-name", "--force", "--keep"];
        command::output(tool("gzip", gzip).arg(generated.join(path)), QUICK)?;
    }

    let output = workspace::own_folder()?.join("deb");
    fs::create_dir_all(&output)
        .with_context(|| format!("cannot make the folder {}", output.display()))?;
    let mut command = Command::new(cargo_deb);
    command
        .current_dir(workspace::root())
        .env("CARGO_TARGET_DIR", workspace::target()?)
        .args([
            "--package=smtp-user",
            "--no-build",
            "--locked",
            "--strip",
            &named,
        ])
        .arg("--output")
        .arg(&output);
    command::succeed(&mut command, &log, QUICK)?;
    fs::read_dir(&output)
        .with_context(|| format!("cannot read the folder {}", output.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .max_by_key(|path| {
            path.metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
        })
        .context("cargo-deb made no package")
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("a path without a folder")?;
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}
