//! From a config to a running thread.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use tokio::sync::{Notify, oneshot};

use super::flows::{Counters, Relays};
use super::{Running, StartError, Tun};
use crate::client::{Client, ClientOptions};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::entropy;
use crate::netstack::{self, Netstack};
use crate::proto::auth::PasswordHash;
use crate::proto::padding::Scheme;
use crate::task::Tasks;
use crate::transport::{self, DialOptions, Dialer, Lookup, Protect, Resolve, SpkiPin, SystemResolver};
use crate::tun::{Device, FdDevice};

/// What a tunnel's thread is made of: checked, but nothing opened yet.
pub(super) struct Parts {
    dialer: Dialer,
    client: ClientOptions,
    netstack: netstack::Options,
    mtu: u16,
    guard: Guard,
    clock: Clock,
}

/// The netstack, once there is one, for whoever learns the server's addresses.
type Guard = Arc<OnceLock<netstack::Control>>;

/// Looks the server up, and has the netstack drop what the TUN brings for it: our own packets, come back.
struct GuardedResolver {
    system: SystemResolver,
    guard: Guard,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, host: &str, port: u16) -> Lookup {
        let lookup = self.system.resolve(host, port);
        let guard = Arc::clone(&self.guard);
        Box::pin(async move {
            let addresses = lookup.await?;
            if let Some(netstack) = guard.get() {
                netstack.set_deny(addresses.clone());
            }
            Ok(addresses)
        })
    }
}

impl Parts {
    pub(super) fn new(config: Config, protect: Arc<dyn Protect>, clock: Clock) -> Result<Self, StartError> {
        let server = config.server;
        let options = DialOptions {
            connect_timeout: server.connect_timeout,
            tls: tls_options(server.tls),
            ..DialOptions::new(server.host.to_string(), server.port)
        };
        let guard = Guard::default();
        let resolver = GuardedResolver { system: SystemResolver::default(), guard: Arc::clone(&guard) };
        let dialer = Dialer::new(options, protect, Arc::new(resolver), clock).map_err(StartError::Tls)?;
        let client = ClientOptions {
            pool: server.pool,
            password: PasswordHash::of(server.password.expose()),
            scheme: Arc::new(Scheme::default_scheme()),
            clock,
        };
        let netstack = netstack::Options {
            memory_bytes: config.tun.memory_limit,
            eager: config.tun.eager,
            deny: match server.host {
                config::Host::Address(address) => vec![SocketAddr::new(address, server.port)],
                config::Host::Name(_) => Vec::new(), // the guard will tell
            },
            ..netstack::Options::default()
        };
        Ok(Self { dialer, client, netstack, mtu: config.tun.mtu.get(), guard, clock })
    }

    /// The tunnel's thread: from here on everything runs on its runtime.
    pub(super) async fn run(
        self,
        tun: Tun,
        ready: oneshot::Sender<Result<Running, StartError>>,
        stop: Arc<Notify>,
    ) {
        let device = match open_device(tun, self.mtu) {
            Ok(device) => device,
            Err(error) => {
                let _caller_gave_up = ready.send(Err(error));
                return;
            }
        };
        let client = Client::new(self.dialer, self.client);
        let relays = Arc::new(Tasks::new());
        let flows = Arc::<Counters>::default();
        let handler = Relays {
            client: client.clone(),
            eager: self.netstack.eager,
            tasks: Arc::clone(&relays),
            counters: Arc::clone(&flows),
            clock: self.clock,
        };
        let netstack = device
            .map(|device| Netstack::new(device, handler, self.netstack, self.clock, entropy::generator()));
        let control = netstack.as_ref().map(Netstack::control);
        if let Some(control) = &control {
            self.guard.get_or_init(|| control.clone());
        }
        let running = Running { client: client.clone(), netstack: control.clone(), flows };
        if ready.send(Ok(running)).is_err() {
            return;
        }
        let packets = async {
            match netstack {
                Some(netstack) => netstack.run().await,
                None => std::future::pending().await,
            }
        };
        let mut packets = std::pin::pin!(packets);
        tokio::select! {
            () = stop.notified() => {
                if let Some(control) = control {
                    control.stop(); // every flow is reset
                    let _gone_all_the_same = packets.await;
                }
            }
            result = &mut packets => {
                if let Err(error) = result {
                    tracing::warn!(%error, "the tunnel ends");
                }
            }
        }
        relays.cancel_all();
        client.stop().await;
        relays.join().await;
    }
}

fn open_device(tun: Tun, mtu: u16) -> Result<Option<Box<dyn Device>>, StartError> {
    match tun {
        Tun::Fd(fd) => Ok(Some(Box::new(FdDevice::new(fd, mtu).map_err(StartError::Tun)?))),
        Tun::Device(device) => Ok(Some(device)),
        Tun::With(make) => make().map(Some).map_err(StartError::Tun),
        Tun::None => Ok(None),
    }
}

fn tls_options(tls: config::TlsOptions) -> transport::TlsOptions {
    transport::TlsOptions {
        server_name: tls.server_name.map(|name| name.to_string()),
        disable_sni: tls.disable_sni,
        // Pins stand for the verification of chain and name, as sing-box has it.
        insecure: tls.insecure || !tls.certificate_public_key_sha256.is_empty(),
        alpn: tls.alpn,
        min_version: tls_version(tls.min_version),
        max_version: tls_version(tls.max_version),
        certificate_authority: tls.certificate.map(pem),
        pins: tls.certificate_public_key_sha256.into_iter().map(SpkiPin).collect(),
        client_certificate: tls.client.map(|client| transport::ClientCertificate {
            certificate: pem(client.certificate),
            key: pem(client.key),
        }),
    }
}

fn tls_version(version: config::TlsVersion) -> transport::TlsVersion {
    match version {
        config::TlsVersion::V1_2 => transport::TlsVersion::Tls12,
        config::TlsVersion::V1_3 => transport::TlsVersion::Tls13,
    }
}

fn pem(pem: config::Pem) -> transport::Pem {
    match pem {
        config::Pem::Text(text) => transport::Pem::Text(text.expose().to_vec()),
        config::Pem::File(path) => transport::Pem::File(path),
    }
}
