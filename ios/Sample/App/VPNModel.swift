import AnyTLSMobile
import Combine
import Darwin
import Foundation
import SampleLogic

/// Between the views and the VPN: passes on what the user asks for, and keeps what came of it. `SampleLogic` decides.
@MainActor
final class VPNModel: ObservableObject {
  @Published private(set) var board = Dashboard(now: VPNModel.now)
  @Published private(set) var lastRun: LastRun?
  @Published private(set) var latency = ""
  @Published private(set) var isTesting = false
  /// Why something that the user asked for was not done; empty when it was.
  @Published private(set) var remark = ""
  @Published private(set) var form = ConfigForm()
  @Published var isConfigShown = false

  let vpn: AnyTLSVPN

  /// Where the switch stands; moving it asks for more than can be done at once.
  var isOn: Bool {
    get { board.view(now: Self.now).isOn }
    set { turn(on: newValue) }
  }

  /// What is typed for a config.
  var draft: String {
    get { form.draft }
    set { form.type(newValue) }
  }

  init() {
    vpn = AnyTLSVPN(providerBundleIdentifier: (Bundle.main.bundleIdentifier ?? "") + ".tunnel")
  }

  /// Seconds of a clock that only goes forward, also while the phone sleeps.
  static var now: TimeInterval { TimeInterval(clock_gettime_nsec_np(CLOCK_MONOTONIC)) / 1e9 }

  // MARK: What the views ask for

  /// The user may have changed something in the system's settings meanwhile.
  func load() async {
    await attempt {
      try await vpn.load()
      readConfig()
    }
  }

  func followStates() async {
    for await state in vpn.states() {
      if board.handle(state, now: Self.now) { Task { await greet() } }
    }
  }

  func count() async {
    guard board.seen.isUp else { return }
    await vpn.refresh()
    guard let stats = try? await vpn.client.stats() else { return }
    board.handle(stats, now: Self.now)
  }

  /// A link only offers what it leads to.
  func follow(_ link: URL) {
    if form.follow(link) { isConfigShown = true }
  }

  /// From the clipboard; nil when there is no text in it.
  func paste(_ text: String?) {
    form.paste(text)
  }

  /// From a document; nil when it could not be read.
  func open(_ text: String?) {
    form.open(text)
  }

  /// `config` is the one whose description the user has read. What is up goes by it at once.
  func take(_ config: VPNConfig) async {
    await attempt {
      try await vpn.save(config, onDemand: vpn.onDemand)
      form.taken()
      isConfigShown = false
      if board.seen.isUp { try await vpn.client.reload(config) }
    }
    readConfig()
  }

  func removeConfig() async {
    await attempt { try await vpn.remove() }
    readConfig()
  }

  func save(_ onDemand: OnDemand) async {
    await attempt {
      guard let config = try vpn.savedConfig() else { throw VPNFailure.noConfig }
      try await vpn.save(config, onDemand: onDemand)
    }
  }

  func testLatency() async {
    (isTesting, latency) = (true, Texts.testing)
    do {
      latency = describe(try await vpn.client.testLatency())
    } catch {
      latency = sentence(for: error)
    }
    isTesting = false
  }

  func close(connection id: UInt64) async {
    await attempt { try await vpn.client.closeConnection(id: id) }
  }

  // MARK: Helpers

  private func turn(on isOn: Bool) {
    Task {
      await attempt {
        switch board.action(turningOn: isOn) {
        case .start: try await vpn.start()
        case .stop: try await vpn.stop()
        case .configure: isConfigShown = true
        }
      }
    }
  }

  /// An extension that has just come up knows nothing of the app's choices, and something of the run before.
  private func greet() async {
    try? await vpn.client.setLogLevel(LogScreen.savedLevel)
    lastRun = try? await vpn.client.lastRun()
  }

  private func readConfig() {
    do {
      form.show(saved: try vpn.savedConfig())
      board.hasConfig = form.hasPresent
    } catch {
      remark = sentence(for: error)
    }
  }

  private func attempt(_ work: @MainActor () async throws -> Void) async {
    remark = ""
    do {
      try await work()
    } catch is CancellationError {
      // The view is gone, and with it whoever would read a remark.
    } catch {
      remark = sentence(for: error)
    }
  }
}
