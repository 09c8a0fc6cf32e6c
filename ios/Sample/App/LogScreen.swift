import AnyTLSMobile
import SampleLogic
import SwiftUI
import UIKit

/// The core's last lines, by level.
struct LogScreen: View {
  private static let levelKey = "log_level"

  @EnvironmentObject private var model: VPNModel
  @AppStorage(LogScreen.levelKey) private var levelName = LogLevel.info.name
  @State private var log = LogView()
  private let format = LogFormat(zone: .current)

  /// What the user has chosen last.
  static var savedLevel: LogLevel {
    LogLevel(name: UserDefaults.standard.string(forKey: levelKey) ?? "")
  }

  var body: some View {
    List(log.shown.reversed()) { entry in
      Text(format.line(entry)).font(.caption2.monospaced()).textSelection(.enabled)
    }
    .listStyle(.plain)
    .navigationTitle(Texts.log)
    .navigationBarTitleDisplayMode(.inline)
    .toolbar {
      ToolbarItemGroup(placement: .bottomBar) {
        Picker(Texts.level, selection: $levelName) {
          ForEach(LogLevel.choices.map(\.name), id: \.self) { Text($0).tag($0) }
        }
        Spacer()
        Button(Texts.copy) { copy() }
        Button(Texts.clear) { log.clear() }
      }
    }
    .task(id: levelName) {
      log.level = LogLevel(name: levelName)
      try? await model.vpn.client.setLogLevel(log.level)
    }
    .everySecond { await refresh() }
  }

  private func refresh() async {
    let question = log.cursor
    guard let page = try? await model.vpn.client.logs(after: question) else { return }
    log.add(page.lines, missed: page.missed, to: question)
  }

  private func copy() {
    UIPasteboard.general.string = format.tail(log.shown, maxChars: maxCopiedChars)
  }
}

/// More is more than a message to whoever helps can hold.
private let maxCopiedChars = 200_000
