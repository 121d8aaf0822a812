//! `cargo xtask VERB`: set-up, build, demo and tests of smtpflow. The command line is here; each verb
//! is a file.

#![forbid(unsafe_code)]

mod apt;
mod bench;
mod build;
mod demo;
mod evaluate;
mod gateway;
mod package;
mod screenshots;
mod setup;
mod story;
mod test;
mod toolchain;
mod tools;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "smtpflow's developer tasks"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Find or install what compiles the kernel program
    Setup,
    /// Set up, then build smtpflow
    Build(build::BuildArgs),
    /// Build smtpflow and run it: cargo xtask run -- run --interface eth0
    Run(build::RunArgs),
    /// Count real mail traffic in a laboratory of network namespaces (needs root)
    Demo(demo::DemoArgs),
    /// Play the story of an abuse desk in a laboratory, from a flag to the answer (needs root)
    Story,
    /// Run all checks and tests (needs root)
    Test(test::TestArgs),
    /// Boot kernels in virtual machines and check smtpflow on each
    Vm(vm::VmArgs),
    /// Install, use, upgrade, remove and purge the package on a gateway in a virtual machine (needs root)
    Gateway(gateway::GatewayArgs),
    /// Measure what counting costs, beside what others cost (needs root)
    Bench(bench::BenchArgs),
    /// Take the README's pictures of the page (needs root)
    Screenshots(screenshots::ScreenshotsArgs),
    /// Build the Debian package
    Deb(package::DebArgs),
    /// Build the agent as one file that needs no library
    Static(package::StaticArgs),
    /// Write what the agent is made of, as a bill of materials (CycloneDX)
    Sbom(package::SbomArgs),
    /// Check licences, sources and known vulnerabilities of what is built in
    Deny,
    /// Build the kernel program by itself, to compare builds
    Ebpf(package::EbpfArgs),
    /// Say who is found in labelled traffic, and who is accused wrongly
    Evaluate(evaluate::EvaluateArgs),
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    xtask::interrupt::watch()?;
    match verb {
        Verb::Setup => setup::run().map(|()| ExitCode::SUCCESS),
        Verb::Build(args) => build::build(&args).map(|_| ExitCode::SUCCESS),
        Verb::Run(args) => build::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Demo(args) => demo::run(&args),
        Verb::Story => story::run(),
        Verb::Test(args) => test::run(&args),
        Verb::Vm(args) => vm::run(&args),
        Verb::Gateway(args) => gateway::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Bench(args) => bench::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Screenshots(args) => screenshots::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Deb(args) => package::deb(&args).map(|()| ExitCode::SUCCESS),
        Verb::Static(args) => package::static_build(&args).map(|()| ExitCode::SUCCESS),
        Verb::Sbom(args) => package::sbom(&args).map(|()| ExitCode::SUCCESS),
        Verb::Deny => package::deny().map(|()| ExitCode::SUCCESS),
        Verb::Ebpf(args) => package::ebpf(&args).map(|()| ExitCode::SUCCESS),
        Verb::Evaluate(args) => evaluate::run(&args).map(|()| ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_the_dashes_goes_to_smtpflow() {
        let cli = Cli::try_parse_from(["xtask", "run", "--", "replay", "--json", "x.pcap"]);
        assert!(matches!(cli.expect("good words").verb, Verb::Run(_)));
        assert!(Cli::try_parse_from(["xtask", "run", "replay"]).is_err());
    }
}
