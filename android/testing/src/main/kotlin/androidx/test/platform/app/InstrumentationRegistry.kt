package androidx.test.platform.app

import android.app.Instrumentation
import android.os.Bundle

/** Stand-in: Robolectric leaves its instrumentation here and asks for it again. */
object InstrumentationRegistry {
    private var instrumentation: Instrumentation? = null
    private var arguments = Bundle()

    @JvmStatic
    fun registerInstance(instance: Instrumentation?, bundle: Bundle) {
        instrumentation = instance
        arguments = bundle
    }

    @JvmStatic
    fun getInstrumentation(): Instrumentation = checkNotNull(instrumentation) { "no test runs" }

    @JvmStatic
    fun getArguments(): Bundle = arguments
}
