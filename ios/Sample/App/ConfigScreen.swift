import AnyTLSMobile
import SampleLogic
import SwiftUI
import UIKit
import UniformTypeIdentifiers

/// Where a config comes from: typed, from the clipboard, a document or a link.
struct ConfigScreen: View {
  @EnvironmentObject private var model: VPNModel
  @State private var isImporting = false
  @State private var isRemoving = false

  var body: some View {
    NavigationView {
      Form {
        Section {
          TextEditor(text: $model.draft)
            .font(.footnote.monospaced())
            .frame(minHeight: 120)
            .keyboardType(.asciiCapable)  // the others make other quotes of those that JSON has
            .disableAutocorrection(true)
            .textInputAutocapitalization(.never)
            .accessibilityLabel(Texts.config)
          Button(Texts.paste) { model.paste(UIPasteboard.general.string) }
          Button(Texts.open) { isImporting = true }
        } footer: {
          Text(Texts.howToAdd)
        }
        offered
        present
      }
      .navigationTitle(Texts.config)
      .toolbar { Button(Texts.close) { model.isConfigShown = false } }
    }
    .navigationViewStyle(.stack)
    .fileImporter(isPresented: $isImporting, allowedContentTypes: [.item]) { result in
      model.open(text(of: result))
    }
    .confirmationDialog(Texts.removeConfig, isPresented: $isRemoving, titleVisibility: .visible) {
      Button(Texts.remove, role: .destructive) { Task { await model.removeConfig() } }
    }
  }

  @ViewBuilder private var offered: some View {
    let lines = model.form.offered
    if !lines.isEmpty {
      Section(Texts.offered) {
        ForEach(lines, id: \.self) { Text($0).textSelection(.enabled) }
        if let offer = model.form.offer {
          Button(model.form.takeTitle) { Task { await model.take(offer) } }
        }
        if !model.remark.isEmpty { Text(model.remark).foregroundColor(.red) }
      }
    }
  }

  private var present: some View {
    Section(Texts.present) {
      ForEach(model.form.present, id: \.self) { Text($0) }
      if model.form.hasPresent {
        Button(Texts.remove, role: .destructive) { isRemoving = true }
      }
    }
  }

  /// Nil when it cannot be read. Documents of other apps are open to this one only between the two calls.
  private func text(of result: Result<URL, any Error>) -> String? {
    guard let document = try? result.get() else { return nil }
    let isScoped = document.startAccessingSecurityScopedResource()
    defer { if isScoped { document.stopAccessingSecurityScopedResource() } }
    return try? ConfigInput.text(of: FileHandle(forReadingFrom: document))
  }
}
