package io.anytls.mobile.sample

import android.content.Intent
import android.os.Bundle
import android.text.Editable
import android.text.TextWatcher
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.CheckedTextView
import android.widget.EditText
import android.widget.ListView
import android.widget.RadioButton
import android.widget.RadioGroup
import android.widget.TextView
import io.anytls.mobile.android.AnyTlsVpn
import io.anytls.mobile.android.VpnConfig
import io.anytls.mobile.sample.logic.AppChoice
import io.anytls.mobile.sample.logic.AppList
import io.anytls.mobile.sample.logic.AppMode
import io.anytls.mobile.sample.logic.InstalledApp
import io.anytls.mobile.sample.logic.Texts
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext

/** Whose traffic the VPN carries. */
class AppsActivity : Screen() {
    internal lateinit var modes: Map<AppMode, RadioButton>
    internal lateinit var search: EditText
    internal lateinit var list: ListView
    internal lateinit var problem: TextView
    internal lateinit var apply: Button

    private val rows = Rows(::appView)
    private var config: VpnConfig? = null
    private var choice = AppChoice(AppMode.ALL, emptySet())
    private var apps: AppList? = null

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        build()
        scope.launch { load(savedInstanceState) }
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        if (apps == null) return
        outState.putString(MODE, choice.mode.name)
        outState.putStringArrayList(PACKAGES, ArrayList(choice.packages))
    }

    private fun build() {
        modes = AppMode.entries.associateWith { mode ->
            RadioButton(this).apply {
                id = View.generateViewId()
                text = when (mode) {
                    AppMode.ALL -> Texts.EVERY_APP
                    AppMode.ONLY -> Texts.ONLY_THESE
                    AppMode.EXCEPT -> Texts.ALL_BUT_THESE
                }
                setOnClickListener { choose(choice.copy(mode = mode)) }
            }
        }
        search = EditText(this).apply {
            hint = Texts.SEARCH
            setSingleLine()
            addTextChangedListener(onChange { filter() })
        }
        list = ListView(this).apply {
            adapter = rows
            setOnItemClickListener { _, _, position, _ ->
                val name = rows[position].packageName
                choose(choice.with(name, name !in choice.packages))
            }
        }
        problem = label()
        apply = button(Texts.APPLY) { scope.launch { apply() } }
        val group = RadioGroup(this).apply { modes.values.forEach(::addView) }
        show(column(group, search, list.fillingTheRest(), problem, apply).padded())
        render()
    }

    private suspend fun load(saved: Bundle?) {
        val config = AnyTlsVpn.savedConfig(this)
        this.config = config
        val before = AppChoice.of(config?.options?.apps ?: AppChoice(AppMode.ALL, emptySet()).filter())
        val installed = withContext(Dispatchers.IO) { installedApps() }
        choice = saved?.let(::restored) ?: before
        apps = AppList(installed, choice.packages, packageName)
        filter()
        render()
    }

    /** Those that users know: with an icon to tap. The manifest asks to see them. */
    private fun installedApps(): List<InstalledApp> {
        val launcher = Intent(Intent.ACTION_MAIN).addCategory(Intent.CATEGORY_LAUNCHER)
        return packageManager.queryIntentActivities(launcher, 0)
            .map { InstalledApp(it.activityInfo.packageName, it.loadLabel(packageManager).toString()) }
            .distinctBy { it.packageName }
    }

    private fun restored(saved: Bundle): AppChoice? {
        val mode = AppMode.entries.find { it.name == saved.getString(MODE) } ?: return null
        return AppChoice(mode, saved.getStringArrayList(PACKAGES).orEmpty().toSet())
    }

    private fun choose(choice: AppChoice) {
        this.choice = choice
        render()
    }

    private fun filter() {
        rows.show(apps?.matching(search.text.toString()).orEmpty())
    }

    private fun render() {
        for ((mode, button) in modes) button.isChecked = mode == choice.mode
        val isChoosing = if (choice.mode == AppMode.ALL) View.INVISIBLE else View.VISIBLE
        search.visibility = isChoosing
        list.visibility = isChoosing
        // The choice is part of what the VPN is started with, so there has to be something to start.
        problem.show(if (apps != null && config == null) Texts.ADD_A_CONFIG else choice.problem.orEmpty())
        apply.isEnabled = config != null && choice.problem == null
        rows.notifyDataSetChanged()
    }

    private fun appView(app: InstalledApp, old: View?, list: ViewGroup): View {
        val view = old ?: layoutInflater.inflate(android.R.layout.simple_list_item_multiple_choice, list, false)
        return (view as CheckedTextView).apply {
            text = app.label
            isChecked = app.packageName in choice.packages
        }
    }

    private suspend fun apply() {
        // Another one than at the beginning, when another app has brought one meanwhile.
        val config = AnyTlsVpn.savedConfig(this)
        this.config = config
        if (config == null) return render()
        val refusal = app.take(config.copy(options = config.options.copy(apps = choice.filter())))
        if (refusal == null) finish() else problem.show(refusal)
    }

    private companion object {
        const val MODE = "mode"
        const val PACKAGES = "packages"
    }
}

private fun onChange(action: () -> Unit) = object : TextWatcher {
    override fun beforeTextChanged(s: CharSequence?, start: Int, count: Int, after: Int) = Unit

    override fun onTextChanged(s: CharSequence?, start: Int, before: Int, count: Int) = Unit

    override fun afterTextChanged(s: Editable?) = action()
}
