//! The API against its own description: schemathesis reads `/api/openapi.json` of a running agent, makes
//! requests of it, good ones and bad ones, and looks whether the answers are what is described.
//!
//! Contract: no answer is a failure of the server, none has another status, type or shape than described,
//! what is described as wrong is refused, and what is described as good is not. Requests that change
//! something have the act token.

use std::time::Duration;

use smtpflow_tests::long;
use smtpflow_tests::watched::{ACT_TOKEN, tools, watch};
use xtask::command;

/// Requests for each operation, beside those at the edges of each parameter.
const EXAMPLES: u32 = 200;
const MANY_EXAMPLES: u32 = 2_000;
/// What is well formed may still make no sense, which no pattern can say: a day that is over, a prefix with
/// bits behind its length, a name that nobody may have. That is 422 (RFC 9110, section 15.5.21).
const CONFIG: &str = "[checks.positive_data_acceptance]\n\
    expected-statuses = [\"2xx\", 401, 403, 404, 409, 422]\n";
const LIMIT: Duration = Duration::from_secs(8 * 60);

#[test]
fn the_api_is_as_it_is_described() {
    watch("sfcontract", "", |watched| {
        let schemathesis = tools().join("python/bin/schemathesis");
        assert!(
            schemathesis.exists(),
            "{}: `cargo xtask test --stage packages` fetches it",
            schemathesis.display()
        );
        let examples = if long() { MANY_EXAMPLES } else { EXAMPLES };
        let config = watched.lab.folder().join("schemathesis.toml");
        std::fs::write(&config, CONFIG).expect("a configuration");
        let mut run = std::process::Command::new(schemathesis);
        run.arg("--config-file").arg(config);
        run.arg("run")
            .arg(format!(
                "http://{}/api/openapi.json",
                watched.options.listen
            ))
            .args(["--header", &format!("Authorization: Bearer {ACT_TOKEN}")])
            .args(["--max-examples", &examples.to_string()])
            .args(["--phases", "examples,coverage,fuzzing"])
            .args(["--exclude-path", "/api/v1/events"])
            // The same requests every time: what is found can be found again.
            .args(["--seed", "20261124", "--generation-deterministic"])
            .args(["--continue-on-failure", "--output-truncate", "true"])
            .args(["--request-timeout", "20", "--no-color"])
            .current_dir(watched.lab.folder());
        let limit = LIMIT * if long() { 12 } else { 1 };
        let begun = std::time::Instant::now();
        let finished = command::finish(&mut run, limit).unwrap_or_else(|error| panic!("{error:#}"));
        println!(
            "{}\n{:.0} s",
            finished.stdout,
            begun.elapsed().as_secs_f64()
        );
        assert!(
            finished.status.success(),
            "{}\n{}\nthe agent says:\n{}",
            finished.stdout,
            finished.stderr,
            command::tail(&watched.agent.borrow_mut().process().log_text(), 20)
        );
        let status = watched.json("/api/v1/status");
        assert_eq!(status["conservation"]["error"], 0, "{status}");
    });
}
