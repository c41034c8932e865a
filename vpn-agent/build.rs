//! Gives the program for Windows its icon, version and manifest. For other systems there is
//! nothing to do.

use std::env;
use std::path::Path;

use embed_resource::{CompilationResult, compile};

fn main() {
    for file in ["agent.rc", "agent.manifest", "agent.ico"] {
        println!("cargo:rerun-if-changed=resources/{file}");
    }
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("windows") {
        return;
    }
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets the version");
    // GNU's compiler hands its definitions to a shell, which takes the quotation marks.
    let is_gnu = env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("gnu");
    let quote = if is_gnu { "\\\"" } else { "\"" };
    let macros = [
        format!("VERSION={quote}{version}{quote}"),
        format!("VERSION_NUMBERS={},0", version.replace('.', ",")),
    ];
    let compiled = compile(Path::new("resources/agent.rc"), macros);
    // A program without its manifest would run with a virtual file store and blurred.
    if let CompilationResult::Failed(_) | CompilationResult::NotAttempted(_) = &compiled {
        panic!("resources/agent.rc: {compiled}");
    }
}
