package io.anytls.mobile.sample.logic

import io.anytls.mobile.android.AppFilter

/** Whose traffic the VPN carries. */
enum class AppMode { ALL, ONLY, EXCEPT }

/** An app on the phone; [label] is the name that users know. */
data class InstalledApp(val packageName: String, val label: String)

/** What the user is choosing. The apps are kept while [mode] goes back and forth. */
data class AppChoice(val mode: AppMode, val packages: Set<String>) {
    /** Why it cannot be used as it is; null when it can. */
    val problem: String? get() = if (mode == AppMode.ONLY && packages.isEmpty()) Texts.CHOOSE_AN_APP else null

    fun with(packageName: String, isChosen: Boolean): AppChoice =
        copy(packages = if (isChosen) packages + packageName else packages - packageName)

    fun filter(): AppFilter = when (mode) {
        AppMode.ALL -> AppFilter.All
        AppMode.ONLY -> AppFilter.Only(packages)
        // Without apps it says the same, and the library may then tell that nothing has changed.
        AppMode.EXCEPT -> if (packages.isEmpty()) AppFilter.All else AppFilter.Except(packages)
    }

    companion object {
        fun of(filter: AppFilter): AppChoice = when (filter) {
            AppFilter.All -> AppChoice(AppMode.ALL, emptySet())
            is AppFilter.Only -> AppChoice(AppMode.ONLY, filter.packages)
            is AppFilter.Except -> AppChoice(AppMode.EXCEPT, filter.packages)
        }
    }
}

/** The phone's apps, and those among the [chosen] that it does not have: they can only be taken off the list here. */
class AppList(installed: List<InstalledApp>, chosen: Set<String>, own: String) {
    private val apps: List<InstalledApp>

    init {
        val byPackage = installed.associateBy { it.packageName } - own
        val missing = (chosen - byPackage.keys - own).map { InstalledApp(it, Texts.notInstalled(it)) }
        // Those that are chosen at the beginning are on top, and stay where they are when they are touched.
        apps = (byPackage.values + missing).sortedWith(
            compareBy<InstalledApp> { it.packageName !in chosen }
                .thenBy(String.CASE_INSENSITIVE_ORDER) { it.label }
                .thenBy { it.packageName },
        )
    }

    /** Those whose name or package has every word of the [query] in it. */
    fun matching(query: String): List<InstalledApp> {
        val words = query.split(' ').filter { it.isNotEmpty() }
        return apps.filter { app ->
            words.all { app.label.contains(it, ignoreCase = true) || app.packageName.contains(it, ignoreCase = true) }
        }
    }
}
