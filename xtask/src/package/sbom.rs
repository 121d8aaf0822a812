//! What the program is made of: a software bill of materials in CycloneDX 1.5.
//!
//! Contract: the packages that are linked into the agent on Linux and into its kernel program, as cargo
//! resolves them from the lock file; no build tool, no test. It has no time and no random number, so that
//! two of the same sources are alike.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use xtask::command;

use super::{QUICK, TARGET};
use crate::workspace;

/// Arguments of `sbom`.
#[derive(Debug, clap::Args)]
pub struct SbomArgs {
    /// Where to write it, instead of standard output
    #[arg(long)]
    output: Option<PathBuf>,
}

/// What is built in: the agent and the kernel program.
const ROOTS: [&str; 2] = ["smtp-user", "smtp-ebpf"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    description: Option<String>,
    repository: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// `None` for one that is linked.
    kind: Option<String>,
}

/// Writes it.
pub fn sbom(args: &SbomArgs) -> Result<()> {
    let text = document()?;
    match &args.output {
        Some(path) => {
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
        }
        None => {
            print!("{text}");
            Ok(())
        }
    }
}

/// The document.
pub fn document() -> Result<String> {
    let platform = format!("--filter-platform={TARGET}");
    let words = ["metadata", "--locked", "--format-version=1", &platform];
    let text = command::output(&mut workspace::cargo(&words)?, QUICK)?;
    let metadata: Metadata =
        serde_json::from_str(&text).context("cargo metadata is not as expected")?;
    let lock = std::fs::read_to_string(workspace::root().join("Cargo.lock"))
        .context("cannot read Cargo.lock")?;
    let document = bill(&metadata, &checksums(&lock))?;
    Ok(format!("{document:#}\n"))
}

fn bill(metadata: &Metadata, checksums: &BTreeMap<(String, String), String>) -> Result<Value> {
    let nodes: BTreeMap<&str, &Node> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node))
        .collect();
    let packages: BTreeMap<&str, &Package> = metadata
        .packages
        .iter()
        .map(|package| (package.id.as_str(), package))
        .collect();
    let find = |id: &str| {
        let package = packages.get(id).copied();
        package.with_context(|| format!("cargo metadata has no package {id}"))
    };
    let roots = metadata.packages.iter();
    let mut waiting: Vec<&str> = roots
        .filter(|package| ROOTS.contains(&package.name.as_str()))
        .map(|package| package.id.as_str())
        .collect();
    let mut linked: BTreeSet<&str> = BTreeSet::new();
    let mut depends: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    while let Some(id) = waiting.pop() {
        if !linked.insert(id) {
            continue;
        }
        let node = nodes
            .get(id)
            .with_context(|| format!("{id} is not resolved"))?;
        let of = depends.entry(purl(find(id)?)).or_default();
        for dependency in &node.deps {
            if dependency.dep_kinds.iter().any(|kind| kind.kind.is_none()) {
                waiting.push(&dependency.pkg);
                of.insert(purl(find(&dependency.pkg)?));
            }
        }
    }
    let mut components = Vec::new();
    for id in &linked {
        let package = find(id)?;
        if package.name != ROOTS[0] {
            components.push(component(package, checksums));
        }
    }
    components.sort_by_key(|component| component["purl"].as_str().map(str::to_owned));
    let agent = metadata
        .packages
        .iter()
        .find(|package| package.name == ROOTS[0]);
    let mut agent = component(agent.context("no package smtp-user")?, checksums);
    agent["type"] = "application".into();
    let depends: Vec<Value> = depends
        .into_iter()
        .map(|(of, on)| json!({ "ref": of, "dependsOn": on }))
        .collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": agent },
        "components": components,
        "dependencies": depends,
    }))
}

/// The name of a package among all kinds of packages.
fn purl(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version)
}

fn component(package: &Package, checksums: &BTreeMap<(String, String), String>) -> Value {
    let mut value = json!({
        "type": "library",
        "bom-ref": purl(package),
        "name": package.name,
        "version": package.version,
        "purl": purl(package),
    });
    if let Some(text) = &package.description {
        value["description"] = text.split_whitespace().collect::<Vec<_>>().join(" ").into();
    }
    if let Some(licence) = &package.license {
        // Old manifests have a slash for OR, which no expression knows.
        value["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
    }
    if let Some(url) = &package.repository {
        value["externalReferences"] = json!([{ "type": "vcs", "url": url }]);
    }
    let key = (package.name.clone(), package.version.clone());
    if let Some(sum) = checksums.get(&key).filter(|_| package.source.is_some()) {
        value["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
    }
    value
}

/// The checksums of the lock file, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |block: &str, key: &str| {
        let line = block
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
        line.and_then(|rest| rest.strip_suffix('"'))
            .map(str::to_owned)
    };
    lock.split("[[package]]")
        .filter_map(|block| {
            let key = (value(block, "name")?, value(block, "version")?);
            Some((key, value(block, "checksum")?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_linked_is_in_it_with_its_checksum() {
        let package = |name: &str, source: Option<&str>| {
            json!({
                "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0",
                "description": null, "repository": null, "source": source,
            })
        };
        let dep = |name: &str, kind: Option<&str>| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let node = |name: &str, deps: Vec<Value>| json!({ "id": name, "deps": deps });
        let metadata = json!({
            "packages": [
                package("smtp-user", None), package("smtp-ebpf", None), package("linked", Some("r")),
                package("below", Some("r")), package("tool", Some("r")), package("test", Some("r")),
            ],
            "resolve": { "nodes": [
                node("smtp-user", vec![dep("linked", None), dep("tool", Some("build")), dep("test", Some("dev"))]),
                node("smtp-ebpf", vec![]), node("linked", vec![dep("below", None)]),
                node("below", vec![]), node("tool", vec![]), node("test", vec![]),
            ]},
        });
        let metadata: Metadata = serde_json::from_value(metadata).expect("metadata");
        let lock = "version = 4\n\n[[package]]\nname = \"below\"\nversion = \"1.0.0\"\n\
                    source = \"r\"\nchecksum = \"c0ffee\"\n";
        let bill = bill(&metadata, &checksums(lock)).expect("a bill");
        let components = bill["components"].as_array().expect("a list");
        let names: Vec<_> = components.iter().map(|one| one["name"].as_str()).collect();
        assert_eq!(names, [Some("below"), Some("linked"), Some("smtp-ebpf")]);
        assert_eq!(components[0]["hashes"][0]["content"], "c0ffee");
        assert_eq!(
            components[1]["licenses"][0]["expression"],
            "MIT OR Apache-2.0"
        );
        assert_eq!(
            bill["metadata"]["component"]["purl"],
            "pkg:cargo/smtp-user@1.0.0"
        );
    }
}
