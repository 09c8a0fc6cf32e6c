//! From a config to a running thread.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use tokio::sync::{Notify, oneshot, watch};

use super::conductor::{Told, conduct};
use super::flows::{Door, Registry, Relays, Routes};
use super::state::State;
use super::{Running, StartError, Tun};
use crate::budget::{Account, Budget};
use crate::client::{Client, ClientOptions};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::dns::{self, Resolver};
use crate::entropy;
use crate::error::chain;
use crate::netstack::{self, Netstack};
use crate::proto::auth::PasswordHash;
use crate::proto::padding::Scheme;
use crate::proto::pool::PoolOptions;
use crate::proto::target::Host;
use crate::task::Tasks;
use crate::transport::{self, DialOptions, Dialer, Lookup, Outside, Resolve, SpkiPin, TlsConfigError};
use crate::tun::{Device, FdDevice};

/// What a tunnel's thread is made of: checked, but nothing opened yet.
pub(super) struct Parts {
    config: Config,
    dialer: Dialer,
    client: ClientOptions,
    resolver: dns::Settings,
    netstack: netstack::Options,
    workshop: Workshop,
}

/// What dialers are made with, in the beginning and when the server is another.
#[derive(Clone)]
pub(super) struct Workshop {
    outside: Outside,
    guard: Guard,
    pub(super) budget: Budget,
    /// What all sessions may hold.
    pub(super) account: Arc<Account>,
    /// What all datagrams may hold.
    pub(super) datagrams: Arc<Account>,
    pub(super) clock: Clock,
}

/// The netstack, once there is one, for whoever learns the server's addresses.
type Guard = Arc<OnceLock<netstack::Control>>;

/// Looks the server up, and has the netstack drop what the TUN brings for it: our own packets, come back.
struct GuardedResolver {
    resolve: Arc<dyn Resolve>,
    guard: Guard,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, host: &str, port: u16) -> Lookup {
        let lookup = self.resolve.resolve(host, port);
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

impl Workshop {
    /// A dialer for `server`, and what a client is made of besides.
    pub(super) fn client(&self, server: config::Server) -> Result<(Dialer, ClientOptions), TlsConfigError> {
        let options = DialOptions {
            connect_timeout: server.connect_timeout,
            tls: tls_options(server.tls),
            account: Arc::clone(&self.account),
            ..DialOptions::new(server.host.to_string(), server.port)
        };
        let Outside { protect, resolve } = self.outside.clone();
        let resolver = GuardedResolver { resolve, guard: Arc::clone(&self.guard) };
        let dialer = Dialer::new(options, protect, Arc::new(resolver), self.clock)?;
        let client = ClientOptions {
            pool: self.pool(server.pool),
            password: PasswordHash::of(server.password.expose()),
            scheme: Arc::new(Scheme::default_scheme()),
            clock: self.clock,
            account: Arc::clone(&self.account),
        };
        Ok((dialer, client))
    }

    /// What the apps' queries are answered by. The AnyTLS server's name never stands for a fake address: it is what
    /// has to be reached from outside.
    pub(super) fn resolver(&self, config: &Config) -> Result<dns::Settings, TlsConfigError> {
        let options = config.dns.clone();
        let config::DnsServer { transport, host, port } = options.server;
        let own = match &config.server.host {
            config::Host::Name(name) => Some(name.as_ref().to_owned()),
            config::Host::Address(_) => None,
        };
        let options = dns::ResolverOptions {
            mode: match options.mode {
                config::DnsMode::Forward => dns::DnsMode::Forward,
                config::DnsMode::FakeIp => dns::DnsMode::FakeIp,
            },
            strategy: options.strategy.map_or(dns::DnsStrategy::AsAsked, |strategy| match strategy {
                config::DnsStrategy::PreferIpv4 => dns::DnsStrategy::PreferIpv4,
                config::DnsStrategy::PreferIpv6 => dns::DnsStrategy::PreferIpv6,
                config::DnsStrategy::Ipv4Only => dns::DnsStrategy::Ipv4Only,
                config::DnsStrategy::Ipv6Only => dns::DnsStrategy::Ipv6Only,
            }),
            server: dns::ServerOptions {
                transport: match transport {
                    config::DnsTransport::Tcp => dns::Transport::Tcp,
                    config::DnsTransport::Tls => dns::Transport::Tls,
                    config::DnsTransport::Https { path } => dns::Transport::Https { path },
                },
                host: target_host(&host),
                port,
                tls: tls_options(options.tls),
            },
            exclude: options.fake_ip_exclude.iter().map(|name| name.as_ref().to_owned()).chain(own).collect(),
            memory_bytes: self.budget.dns,
        };
        options.read()
    }

    /// The options that there is memory for.
    pub(super) fn pool(&self, options: PoolOptions) -> PoolOptions {
        let most = self.budget.max_sessions;
        let max_sessions = if options.max_sessions == 0 { most } else { options.max_sessions.min(most) };
        if options.max_sessions > most {
            tracing::info!(asked = options.max_sessions, max_sessions, "memory_limit holds fewer sessions");
        }
        PoolOptions { max_sessions, ..options }
    }

    /// Has the netstack drop what the TUN brings for the server: our own packets, come back.
    pub(super) fn deny(&self, server: &config::Server) {
        if let Some(netstack) = self.guard.get() {
            netstack.set_deny(literal_address(server).into_iter().collect()); // of a name, the guard will tell
        }
    }
}

fn literal_address(server: &config::Server) -> Option<SocketAddr> {
    match server.host {
        config::Host::Address(address) => Some(SocketAddr::new(address, server.port)),
        config::Host::Name(_) => None,
    }
}

fn target_host(host: &config::Host) -> Host {
    match host {
        config::Host::Address(address) => Host::from(*address),
        config::Host::Name(name) => Host::Name(name.as_ref().parse().expect("a DNS name is a target's name")),
    }
}

impl Parts {
    pub(super) fn new(config: Config, outside: Outside, clock: Clock) -> Result<Self, StartError> {
        let Config { server, tun, .. } = &config;
        let budget = Budget::divide(tun.memory_limit, server.pool.max_sessions, tun.eager);
        let account = Arc::new(budget.account());
        let datagrams = Arc::new(Account::new(budget.datagrams));
        let workshop = Workshop { outside, guard: Guard::default(), budget, account, datagrams, clock };
        let netstack = netstack::Options {
            memory_bytes: budget.netstack,
            flow_bytes: budget.flow_bytes(),
            eager: tun.eager,
            max_flows: budget.max_flows,
            max_half_open: budget.max_half_open(),
            max_udp_flows: budget.max_udp_flows(None),
            datagrams: Arc::clone(&workshop.datagrams),
            reassembly_bytes: budget.reassembly,
            networks: tun.addresses.iter().map(|a| (a.address(), a.prefix_len())).collect(),
            deny: literal_address(server).into_iter().collect(),
        };
        let (dialer, client) = workshop.client(server.clone()).map_err(StartError::Tls)?;
        let resolver = workshop.resolver(&config).map_err(StartError::Tls)?;
        Ok(Self { config, dialer, client, resolver, netstack, workshop })
    }

    /// What a reload makes another client with.
    pub(super) fn workshop(&self) -> Workshop {
        self.workshop.clone()
    }

    /// The tunnel's thread: from here on everything runs on its runtime.
    pub(super) async fn run(
        self,
        tun: Tun,
        told: Arc<Told>,
        shown: watch::Sender<State>,
        ready: oneshot::Sender<Result<Running, StartError>>,
        stop: Arc<Notify>,
    ) {
        let shown = LastWord(shown);
        let Self { config, dialer, client, resolver, netstack: options, workshop } = self;
        let clock = workshop.clock;
        let device = match open_device(tun, config.tun.mtu.get()) {
            Ok(device) => device,
            Err(error) => {
                let _caller_gave_up = ready.send(Err(error));
                return;
            }
        };
        let client = Client::new(dialer, client);
        let resolver = Resolver::new(resolver, client.clone(), clock, entropy::generator());
        let routes = Arc::new(Routes::new(&config, resolver));
        let relays = Arc::new(Tasks::new());
        let flows = Registry::new(clock);
        let handler = Relays {
            client: client.clone(),
            eager: options.eager,
            tasks: Arc::clone(&relays),
            registry: Arc::clone(&flows),
            routes: Arc::clone(&routes),
            datagrams: Arc::clone(&workshop.datagrams),
            clock,
        };
        let netstack =
            device.map(|device| Netstack::new(device, handler, options, clock, entropy::generator()));
        let control = netstack.as_ref().map(Netstack::control);
        if let Some(control) = &control {
            workshop.guard.get_or_init(|| control.clone());
        }
        let door = Door::default();
        let _open = door.open(&relays);
        let running = Running {
            client: client.clone(),
            netstack: control.clone(),
            flows: Arc::clone(&flows),
            door: door.clone(),
            routes: Arc::clone(&routes),
        };
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
        let failure = tokio::select! {
            () = stop.notified() => None,
            result = &mut packets => Some(match result {
                Ok(()) => "the TUN was closed".to_owned(),
                Err(error) => chain(&error),
            }),
            () = conduct(&told, &workshop, &client, &routes, control.as_ref(), &shown.0) => None,
        };
        shown.0.send_replace(State::Stopping);
        door.close();
        flows.close_all();
        if failure.is_none()
            && let Some(control) = control
        {
            control.stop(); // every flow is reset
            let _gone_all_the_same = packets.await;
        }
        relays.cancel_all();
        routes.resolver.stop().await;
        client.stop().await;
        relays.join().await;
        shown.0.send_replace(match failure {
            None => State::Stopped,
            Some(error) => {
                tracing::warn!(error, "the tunnel has ended");
                // Without its TUN, the system routes apps as if there were no VPN.
                State::Failed { error, is_bug: false, is_traffic_blocked: false }
            }
        });
    }
}

/// Sees to it that whoever watches the state hears of the end, be it a panic.
struct LastWord(watch::Sender<State>);

impl Drop for LastWord {
    fn drop(&mut self) {
        self.0.send_if_modified(|state| {
            let is_news = !matches!(state, State::Stopped | State::Failed { .. });
            if is_news {
                let error = "the tunnel's thread has ended early".to_owned();
                *state = State::Failed { error, is_bug: true, is_traffic_blocked: false };
            }
            is_news
        });
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
