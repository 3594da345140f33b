//! Images made of local files, without any engine: a layer, and the documents that describe it.
//!
//! The archive has both layouts that programs read: OCI's (`index.json`, `blobs/`) and that of `docker save`
//! (`manifest.json`). Equal files give an equal archive.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What an image starts, and as whom.
pub struct Start<'a> {
    pub entrypoint: &'a [&'a str],
    pub command: &'a [&'a str],
    /// `user:group`, as numbers; empty for root.
    pub user: &'a str,
    pub environment: &'a [&'a str],
}

/// One thing of the layer, by its path without a leading slash.
pub enum Item {
    Directory { path: String, mode: u32 },
    File { path: String, mode: u32, source: PathBuf },
    Text { path: String, mode: u32, text: String },
    Link { path: String, target: String },
}

impl Item {
    pub fn directory(path: &str, mode: u32) -> Self {
        Self::Directory { path: path.to_owned(), mode }
    }

    pub fn file(path: &str, mode: u32, source: &Path) -> Self {
        Self::File { path: path.to_owned(), mode, source: source.to_owned() }
    }

    pub fn text(path: &str, mode: u32, text: &str) -> Self {
        Self::Text { path: path.to_owned(), mode, text: text.to_owned() }
    }
}

/// Writes the archive of an image of one layer.
pub fn write(reference: &str, items: &[Item], start: &Start<'_>, archive: &Path) -> Result<()> {
    let layer = layer(items)?;
    let layer_digest = digest(&layer);
    let config = document(&json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Entrypoint": start.entrypoint, "Cmd": start.command, "User": start.user,
            "Env": start.environment, "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        "history": [{"created": "1970-01-01T00:00:00Z"}],
    }));
    let config_digest = digest(&config);
    let manifest = document(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }));
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference.rsplit_once(':').map_or("latest", |(_, tag)| tag),
    });
    entry["platform"] = json!({"architecture": architecture(), "os": "linux"});
    let index = document(&json!({"schemaVersion": 2, "manifests": [entry]}));
    let docker = document(&json!([{
        "Config": format!("blobs/sha256/{config_digest}"),
        "RepoTags": [reference],
        "Layers": [format!("blobs/sha256/{layer_digest}")],
    }]));

    let parent = archive.parent().context("an archive lies in a directory")?;
    std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    let mut tar = tar::Builder::new(Vec::new());
    let blob = |content: &[u8]| format!("blobs/sha256/{}", digest(content));
    for (name, content) in [
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.as_slice()),
        ("index.json".to_owned(), &index),
        ("manifest.json".to_owned(), &docker),
        (blob(&manifest), &manifest),
        (blob(&config), &config),
        (blob(&layer), &layer),
    ] {
        append(&mut tar, &name, 0o644, tar::EntryType::Regular, content)?;
    }
    let bytes = tar.into_inner().context("finish the archive")?;
    // Beside its place first: what `up` imports is never half an archive.
    let unfinished = archive.with_extension(format!("{}.unfinished", std::process::id()));
    let written = std::fs::File::create(&unfinished).and_then(|mut file| file.write_all(&bytes));
    written.and_then(|()| std::fs::rename(&unfinished, archive)).with_context(|| format!("write {}", archive.display()))
}

fn layer(items: &[Item]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for item in items {
        match item {
            Item::Directory { path, mode } => {
                append(&mut tar, &format!("{path}/"), *mode, tar::EntryType::Directory, b"")?;
            }
            Item::File { path, mode, source } => {
                let content = std::fs::read(source).with_context(|| format!("read {}", source.display()))?;
                append(&mut tar, path, *mode, tar::EntryType::Regular, &content)?;
            }
            Item::Text { path, mode, text } => {
                append(&mut tar, path, *mode, tar::EntryType::Regular, text.as_bytes())?;
            }
            Item::Link { path, target } => {
                let mut header = header(0o777, tar::EntryType::Symlink, 0);
                tar.append_link(&mut header, path, target).with_context(|| format!("add {path} to the layer"))?;
            }
        }
    }
    tar.into_inner().context("finish the layer")
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, kind: tar::EntryType, content: &[u8]) -> Result<()> {
    let mut header = header(mode, kind, content.len() as u64);
    tar.append_data(&mut header, path, content).with_context(|| format!("add {path} to the archive"))
}

fn header(mode: u32, kind: tar::EntryType, size_bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size_bytes);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{}", digest(content)), "size": content.len()})
}

fn document(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// The sha256, in hexadecimal.
pub fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_files_give_an_equal_archive_that_names_its_blobs() {
        let directory = tempfile::tempdir().unwrap();
        let tool = directory.path().join("tool");
        std::fs::write(&tool, "#!").unwrap();
        let items = [
            Item::directory("bin", 0o755),
            Item::file("bin/tool", 0o755, &tool),
            Item::Link { path: "bin/other".to_owned(), target: "tool".to_owned() },
        ];
        let start = Start { entrypoint: &["/bin/tool"], command: &[], user: "1000:1000", environment: &[] };
        let archives = ["one.tar", "two.tar"].map(|name| directory.path().join(name));
        for archive in &archives {
            write("localhost/tool:1", &items, &start, archive).unwrap();
        }
        let [one, two] = archives.map(|archive| std::fs::read(archive).unwrap());
        assert_eq!(one, two);
        let mut archive = tar::Archive::new(one.as_slice());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            if let Some(name) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(name, digest(&content));
            }
        }
    }
}
