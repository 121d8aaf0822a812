//! The verb that tests a host.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::load;
use super::reading::OutputArgs;
use crate::failure::Failure;
use crate::reading::Output;
use crate::relay_test::Options;

/// `smtpflow relay-test`.
#[derive(Debug, Args)]
#[command(
    after_help = "Outcomes, of each pattern and of all: closed, nobody listens; refused, the server does \
                        not want to talk; rejected, MAIL or RCPT is answered with 4xx or 5xx; unclear, there \
                        is no answer; accepted-but, RCPT is accepted and no message is; OPEN, a message is \
                        accepted. The exit code is 0 for all but unclear (1). 77: the host is none of \
                        your own. 69: it was tested within the last 24 hours, or two tests run already."
)]
pub struct RelayTestArgs {
    /// Its address, inside your own prefixes (networks.local); names are not looked up
    #[arg(value_name = "ADDR")]
    pub address: IpAddr,
    /// Configuration file with your own prefixes and the section `[relay_test]`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to write.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl RelayTestArgs {
    /// What to do. There is no flag for prefixes: only what the configuration says may be tested.
    pub fn options(self) -> Result<(Options, Output), Failure> {
        let output = self.output.output();
        let config = load(self.config.as_ref())?;
        Ok((
            Options {
                address: self.address,
                local: config.networks.local,
                settings: config.relay_test,
            },
            output,
        ))
    }
}
