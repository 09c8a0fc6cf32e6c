import AnyTLSMobile
import SampleLogic
import SwiftUI

/// The switch, and how things are.
struct MainView: View {
  @EnvironmentObject private var model: VPNModel
  @Environment(\.scenePhase) private var phase

  var body: some View {
    NavigationView {
      List {
        StatusSection()
        if model.board.stats != nil { SpeedSection() }
        Section {
          Button(Texts.test) { Task { await model.testLatency() } }
            .disabled(!model.board.seen.isUp || model.isTesting)
          if !model.latency.isEmpty { Text(model.latency) }
        }
        Section {
          Button(Texts.config) { model.isConfigShown = true }
          NavigationLink(Texts.onDemand) { OnDemandScreen(form: OnDemandForm(model.vpn.onDemand)) }
          NavigationLink(Texts.traffic) { TrafficScreen() }
          NavigationLink(Texts.log) { LogScreen() }
        }
        if let run = model.lastRun {
          Section(Texts.lastRun) {
            ForEach(describe(run, now: Date()), id: \.self) { Text($0) }
          }
        }
      }
      .navigationTitle(Texts.appName)
    }
    .navigationViewStyle(.stack)
    .sheet(isPresented: $model.isConfigShown) { ConfigScreen() }
    .task { await model.followStates() }
    .task(id: phase) { if phase == .active { await model.load() } }
    .everySecond { await model.count() }
  }
}

private struct StatusSection: View {
  @EnvironmentObject private var model: VPNModel

  var body: some View {
    // The seconds to the next try run down between two states.
    TimelineView(.periodic(from: Date(), by: 1)) { _ in content(model.board.view(now: VPNModel.now)) }
  }

  private func content(_ view: ViewState) -> some View {
    VStack(alignment: .leading, spacing: 8) {
      Toggle(isOn: $model.isOn) {
        Text(view.headline).font(.title2.bold()).foregroundColor(view.tone.color)
      }
      .disabled(!view.canSwitch)
      .accessibilityLabel(Texts.vpn)
      .accessibilityValue(view.headline)
      if !view.detail.isEmpty { Text(view.detail).font(.callout) }
      if !model.remark.isEmpty { Text(model.remark).font(.callout).foregroundColor(.red) }
      ForEach(model.form.present, id: \.self) { Text($0).font(.callout).foregroundColor(.secondary) }
    }
    .padding(.vertical, 4)
  }
}

private struct SpeedSection: View {
  @EnvironmentObject private var model: VPNModel

  var body: some View {
    let traffic = model.board.traffic
    Section {
      TimelineView(.periodic(from: Date(), by: 1)) { _ in
        SpeedGraphView(graph: model.board.graph(now: VPNModel.now))
      }
      Text(traffic.speed).bold()
      Text(traffic.totals)
      Text(traffic.counts)
    }
  }
}

extension Tone {
  fileprivate var color: Color {
    switch self {
    case .off, .busy: .primary
    case .good: .green
    case .trouble: .red
    }
  }
}
