//! `riverrun server`: the HTTP API over an engine in this process.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use tokio::net::TcpListener;

use super::place::{Place, Unnamed, brokers};
use super::shell::assignments;
use crate::client::{Client, EmbeddedClient};
use crate::config::{self, Config};
use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::engine::Engine;
use crate::server::{ServerState, serve};
use crate::shell::Output;
use crate::shell::interrupt::Interrupt;
use crate::shell::layout::Layout;
use crate::shell::script::{Script, ScriptMode};

const EXAMPLES: &str = "\
Examples:
  riverrun server
  riverrun server --data-dir /var/lib/riverrun --listen 0.0.0.0:8088
  riverrun server --config ksql-server.properties --queries-file queries.sql --define region=eu
  riverrun server --bootstrap-servers kafka:9092 --service-id orders_ --data-dir /var/lib/riverrun
  riverrun server --set ksql.service.id=orders_ --set state.memory.bytes=1GiB";

/// Arguments of `server`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServerArgs {
    /// Where to listen; port 0 takes a free one and prints it [default: 127.0.0.1:8088, or the property listeners]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The service: nodes with the same id share its commands and its queries [default: default_]
    #[arg(long, value_name = "ID")]
    service_id: Option<String>,
    /// Execute the statements of this file before serving; may come several times
    #[arg(long, value_name = "FILE")]
    queries_file: Vec<PathBuf>,
    /// Define a variable for ${NAME} in the queries files; may come several times
    #[arg(short = 'd', long, value_name = "NAME=VALUE")]
    define: Vec<String>,
    /// Set a property over the file's; may come several times
    #[arg(long, value_name = "PROPERTY=VALUE")]
    set: Vec<String>,
}

/// Serves until SIGTERM or Ctrl-C.
pub(super) fn server(place: &Place, arguments: &ServerArgs) -> Result<(), Diagnostic> {
    if place.server.is_some() {
        return Err(Diagnostic::user("A server works on a data directory, not on another server")
            .help("leave --server away, or start a shell with it"));
    }
    let mut properties = place.properties(&assignments(&arguments.set)?)?;
    if let Some(id) = &arguments.service_id {
        properties.insert(config::SERVICE_ID.to_owned(), id.clone());
    }
    let values = Config::new(&properties)?;
    let address = address(arguments.listen.as_deref(), &values)?;
    let defines = assignments(&arguments.define)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| super::system_error("A runtime cannot be started", &error))?;
    // The port before the data: a port in use must not cost a recovery.
    let listener = runtime.block_on(listen(&address))?;
    let (mut dir, _temporary) = place.data_dir(Unnamed::Own)?;
    let on_kafka = brokers(&properties).is_some();
    if place.data_dir.is_none() && on_kafka {
        dir.push("kafka");
    }
    if on_kafka && !values.is_set(config::ADVERTISED_LISTENER) {
        let url = listener.local_addr().ok().and_then(|address| advertised(address, host_name().as_deref()));
        properties.extend(url.map(|url| (config::ADVERTISED_LISTENER.to_owned(), url)));
    }
    let engine = Place::engine(&dir, properties)?;
    let served = execute_files(&engine, &arguments.queries_file, &defines)
        .and_then(|()| runtime.block_on(serve_until_signal(engine.clone(), values, listener)));
    drop(runtime);
    let closed = engine.close();
    served.and(closed)
}

/// `--listen`, else the first of `listeners`.
fn address(listen: Option<&str>, values: &Config) -> Result<String, Diagnostic> {
    if let Some(address) = listen {
        return Ok(address.to_owned());
    }
    let listeners = values.text(config::LISTENERS).unwrap_or_default();
    let first = listeners.split(',').next().unwrap_or_default().trim();
    match first.split_once("://") {
        Some(("http", address)) => Ok(address.trim_end_matches('/').to_owned()),
        _ => Err(Diagnostic::user(format!("'{first}' is not a listener that can be served"))
            .help("write listeners=http://host:port, or give --listen HOST:PORT; for TLS put a proxy in front")),
    }
}

/// The URL under which other nodes reach who listens there, as far as it can be known.
fn advertised(address: std::net::SocketAddr, host: Option<&str>) -> Option<String> {
    if !address.ip().is_unspecified() {
        return Some(format!("http://{address}"));
    }
    host.map(|host| format!("http://{host}:{}", address.port()))
}

/// The name of this machine.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok())?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

async fn listen(address: &str) -> Result<TcpListener, Diagnostic> {
    TcpListener::bind(address).await.map_err(|error| {
        let cannot = Diagnostic::new(ErrorClass::Fatal, format!("Cannot listen on {address}: {error}"));
        match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                cannot.help("another process listens there; stop it, or give another port with --listen HOST:PORT")
            }
            std::io::ErrorKind::PermissionDenied => cannot.help("give a port above 1023 with --listen HOST:PORT"),
            _ => cannot.help("give an address of this machine with --listen HOST:PORT"),
        }
    })
}

/// Executes queries files; their results go to standard output, the first error ends the start.
fn execute_files(engine: &Engine, files: &[PathBuf], defines: &BTreeMap<String, String>) -> Result<(), Diagnostic> {
    let mut client = EmbeddedClient::new(engine.clone(), "this process");
    for (name, value) in defines {
        client.define(name, value);
    }
    let (layout, interrupt) = (Layout::of_terminal(), Interrupt::default());
    let mut out = std::io::stdout();
    for file in files {
        let mut script = Script {
            client: &mut client,
            out: &mut out,
            output: Output::Table,
            layout: &layout,
            interrupt: &interrupt,
            mode: ScriptMode::batch(),
        };
        script.run_file(file)?;
    }
    Ok(())
}

async fn serve_until_signal(engine: Engine, values: Config, listener: TcpListener) -> Result<(), Diagnostic> {
    let failed = |error: &std::io::Error| super::system_error("The server stopped", error);
    let termination = super::signals::termination()?;
    let address = listener.local_addr().map_err(|error| failed(&error))?;
    println!("riverrun {} listens on http://{address}", crate::wire::VERSION);
    serve(ServerState::new(engine, values), listener, termination).await.map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_nodes_are_told_where_we_listen() {
        let of = |address: &str, host| advertised(address.parse().unwrap(), host);
        assert_eq!(of("127.0.0.1:8088", Some("box")).as_deref(), Some("http://127.0.0.1:8088"));
        assert_eq!(of("0.0.0.0:8088", Some("box")).as_deref(), Some("http://box:8088"));
        assert_eq!(of("0.0.0.0:8088", None), None);
    }

    #[test]
    fn the_address_comes_from_the_flag_then_the_property() {
        let of = |listen, value: Option<&str>| {
            let set = value.map(|v| (config::LISTENERS.to_owned(), v.to_owned())).into_iter().collect();
            address(listen, &Config::new(&set).unwrap()).map_err(|error| error.message)
        };
        assert_eq!(of(None, None).unwrap(), "127.0.0.1:8088");
        assert_eq!(of(None, Some("http://0.0.0.0:9000/, http://x:1")).unwrap(), "0.0.0.0:9000");
        assert_eq!(of(Some("h:1"), Some("http://0.0.0.0:9000")).unwrap(), "h:1");
        assert!(of(None, Some("https://0.0.0.0:9000")).unwrap_err().contains("https://0.0.0.0:9000"));
    }
}
