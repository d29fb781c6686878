//! Compiles every `.proto` file under `proto/` into `OUT_DIR`, and nothing anywhere else.
//!
//! The files are parsed by protox, so there is no `protoc` to install. A new file, or a new
//! package, is picked up by itself; what is public is decided by its folder, `lictor/v1`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use prost_build::{Config, Service, ServiceGenerator};

/// Where the contract lies, and what imports are relative to.
const ROOT: &str = "proto";

/// The part of it that servers describe by reflection.
const PUBLIC: &str = "proto/lictor/v1";

/// Streams whose messages a server encodes once and sends to many: service and rpc.
const SHARED_STREAMS: [(&str, &str); 5] = [
    ("WatchService", "Watch"),
    ("KvService", "Watch"),
    ("CatalogService", "WatchServices"),
    ("CatalogService", "WatchNodes"),
    ("HealthService", "WatchService"),
];

fn main() -> Result<(), Box<dyn Error>> {
    // A directory is watched with all that is in it, so new files are seen as well.
    println!("cargo::rerun-if-changed={ROOT}/lictor");
    println!("cargo::rerun-if-changed=build.rs");

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let public = parse(Path::new(PUBLIC))?;
    fs::write(out.join("contract.binpb"), public.encode_file_descriptor_set())?;

    let all = parse(Path::new(ROOT))?;
    let mut config = Config::new();
    config.bytes(["."]).out_dir(&out).include_file("contract.rs").service_generator(Box::new(Services::new()));
    config.compile_fds(all.file_descriptor_set())?;
    Ok(())
}

/// Parses the `.proto` files in and below `folder`, with their comments and imports.
fn parse(folder: &Path) -> Result<protox::Compiler, Box<dyn Error>> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    let mut compiler = protox::Compiler::new([ROOT])?;
    compiler.include_source_info(true).include_imports(true).open_files(files)?;
    Ok(compiler)
}

/// Adds the `.proto` files in and below `folder` to `files`.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

/// Generates ordinary clients, and servers that may answer the shared streams with bytes that
/// were encoded before.
struct Services {
    clients: Box<dyn ServiceGenerator>,
    servers: Box<dyn ServiceGenerator>,
}

impl Services {
    fn new() -> Self {
        let clients = tonic_prost_build::configure().build_server(false);
        let servers = tonic_prost_build::configure().build_client(false).codec_path("crate::shared::Codec");
        Self { clients: clients.service_generator(), servers: servers.service_generator() }
    }
}

impl ServiceGenerator for Services {
    fn generate(&mut self, mut service: Service, code: &mut String) {
        self.clients.generate(service.clone(), code);
        for method in &mut service.methods {
            let rpc = (service.proto_name.as_str(), method.proto_name.as_str());
            if SHARED_STREAMS.contains(&rpc) {
                method.output_type = format!("crate::Encoded<crate::v1::{}>", method.output_type);
            }
        }
        self.servers.generate(service, code);
    }
}
