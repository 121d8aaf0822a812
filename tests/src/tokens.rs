//! The tokens of an agent under test.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The read token.
pub const READ: &str = "0123456789abcdef0123456789abcdef";
/// The act token.
pub const ACT: &str = "fedcba9876543210fedcba9876543210";
/// Neither of them, and as long.
pub const WRONG: &str = "0123456789abcdef0123456789abcdeX";

/// Files with tokens, and a configuration that names them.
pub fn configuration(folder: &Path, more: &str) -> PathBuf {
    let token = |name: &str, token: &str| {
        let path = folder.join(name);
        std::fs::write(&path, token).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode set");
        path.display().to_string()
    };
    let text = format!(
        "[serve]\ntoken_file = \"{}\"\nact_token_file = \"{}\"\n{more}",
        token("read", READ),
        token("act", ACT)
    );
    let config = folder.join("smtpflow.toml");
    std::fs::write(&config, text).expect("written");
    config
}
