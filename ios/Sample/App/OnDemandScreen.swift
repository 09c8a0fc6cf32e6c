import AnyTLSMobile
import SampleLogic
import SwiftUI

/// When the system turns the VPN on and off by itself.
struct OnDemandScreen: View {
  @EnvironmentObject private var model: VPNModel
  @Environment(\.dismiss) private var dismiss
  @State var form: OnDemandForm

  var body: some View {
    Form {
      Section {
        Toggle(Texts.useRules, isOn: $form.isEnabled)
      } footer: {
        Text(form.consequence)
      }
      Section {
        picker(Texts.onWifi, $form.onWifi)
        picker(Texts.onCellular, $form.onCellular)
      }
      Section(Texts.trusted) {
        ForEach(form.trusted, id: \.self) { Text($0) }
          .onDelete { form.removeNames(at: $0) }
        HStack {
          TextField(Texts.networkName, text: $form.newName)
            .disableAutocorrection(true)
            .textInputAutocapitalization(.never)
          Button(Texts.add) { form.addName() }
            .disabled(form.nameToAdd == nil)
        }
      }
      Section {
        Button(Texts.save) { Task { await save() } }
          .disabled(!model.form.hasPresent)
      } footer: {
        Text(model.form.hasPresent ? model.remark : Texts.addAConfig)
      }
    }
    .navigationTitle(Texts.onDemand)
  }

  private func picker(_ title: String, _ action: Binding<OnDemand.Action>) -> some View {
    Picker(title, selection: action) {
      ForEach(OnDemand.Action.allCases, id: \.self) { Text($0.title).tag($0) }
    }
    .disabled(!form.isEnabled)
  }

  private func save() async {
    await model.save(form.onDemand)
    if model.remark.isEmpty { dismiss() }
  }
}
