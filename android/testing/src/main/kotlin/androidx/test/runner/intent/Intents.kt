package androidx.test.runner.intent

import android.app.Instrumentation
import android.content.Intent

// Stand-ins: Robolectric offers each intent for interception; nothing here intercepts.

interface IntentMonitor

interface IntentStubber {
    fun getActivityResultForIntent(intent: Intent): Instrumentation.ActivityResult?
}

object IntentMonitorRegistry {
    @JvmStatic
    @Suppress("UNUSED_PARAMETER")
    fun registerInstance(instance: IntentMonitor?) = Unit
}

object IntentStubberRegistry {
    @JvmStatic
    @Suppress("FunctionOnlyReturningConstant")
    fun isLoaded(): Boolean = false

    @JvmStatic
    fun getInstance(): IntentStubber = error("asked only when loaded")
}
