// SPDX-License-Identifier: MIT
import java.util.Set;

/** Opens an image as TSK's Java bindings do: by a JNI library that needs libtsk. */
public class Probe {
  /** The image types that TSK's Java classes know: from any other number they throw. */
  private static final Set<Integer> KNOWN_TYPES =
      Set.of(0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 16384, 65535);

  private static native int open(String image);

  private static native long size();

  private static native String listRoot();

  private static native void close();

  public static void main(String[] arguments) {
    System.load(arguments[0]);
    for (int i = 1; i < arguments.length; i++) {
      int type = open(arguments[i]);
      if (!KNOWN_TYPES.contains(type))
        throw new IllegalArgumentException(
            "no image type of TSK's Java classes has the number " + type);
      System.out.println("type " + type + ", " + size() + " bytes: " + listRoot());
      close();
    }
  }
}
