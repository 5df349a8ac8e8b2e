/* SPDX-License-Identifier: MIT */
/* The native half of Probe.java: libtsk, called from inside a Java virtual machine. */
#include <jni.h>
#include <string.h>
#include <tsk/libtsk.h>

static TSK_IMG_INFO *image;

static void throw_last_error(JNIEnv *env)
{
  (*env)->ThrowNew(env, (*env)->FindClass(env, "java/lang/RuntimeException"), tsk_error_get());
}

/* Open by autodetection; return the type. */
JNIEXPORT jint JNICALL Java_Probe_open(JNIEnv *env, jclass class, jstring name)
{
  const char *path = (*env)->GetStringUTFChars(env, name, NULL);

  (void) class;
  image = tsk_img_open_utf8_sing(path, TSK_IMG_TYPE_DETECT, 0);
  (*env)->ReleaseStringUTFChars(env, name, path);
  if (image == NULL) {
    throw_last_error(env);
    return 0;
  }
  return (jint) image->itype;
}

JNIEXPORT jlong JNICALL Java_Probe_size(JNIEnv *env, jclass class)
{
  (void) env, (void) class;
  return image->size;
}

/* The names in the root directory of the file system, each followed by a blank. */
JNIEXPORT jstring JNICALL Java_Probe_listRoot(JNIEnv *env, jclass class)
{
  TSK_FS_INFO *fs = tsk_fs_open_img(image, 0, TSK_FS_TYPE_DETECT);
  TSK_FS_DIR *root = fs == NULL ? NULL : tsk_fs_dir_open(fs, "/");
  char names[1024] = "";

  (void) class;
  if (root == NULL) {
    throw_last_error(env);
    return NULL;
  }
  for (size_t i = 0; i < tsk_fs_dir_getsize(root); i++) {
    TSK_FS_FILE *file = tsk_fs_dir_get(root, i);
    size_t used = strlen(names);

    snprintf(names + used, sizeof(names) - used, "%s ", file->name->name);
    tsk_fs_file_close(file);
  }
  tsk_fs_dir_close(root);
  tsk_fs_close(fs);
  return (*env)->NewStringUTF(env, names);
}

JNIEXPORT void JNICALL Java_Probe_close(JNIEnv *env, jclass class)
{
  (void) env, (void) class;
  tsk_img_close(image);
}
