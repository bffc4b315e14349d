{{/* Whether models of one's own are served; otherwise the embedded ones. */}}
{{- define "thalamus.hasModels" -}}
{{- if .Values.config.models -}}yes{{- end -}}
{{- end -}}

{{- define "thalamus.drainSeconds" -}}
{{- $server := .Values.config.server | default dict -}}
{{- $timeouts := .Values.config.timeouts | default dict -}}
{{- if hasKey $server "drain_s" -}}
{{- $server.drain_s | float64 | ceil | int -}}
{{- else -}}
{{- $timeouts.total_s | default 600 | float64 | ceil | int -}}
{{- end -}}
{{- end -}}

{{/* Longer than the notice and the longest stream: the kubelet kills nobody who keeps to the plan. */}}
{{- define "thalamus.graceSeconds" -}}
{{- add .Values.noticeSeconds (include "thalamus.drainSeconds" . | int) 15 -}}
{{- end -}}

{{- define "thalamus.routerFolder" -}}
{{- with .Values.router -}}
{{- if or .persistentVolumeClaim .image.reference .copyFrom.image -}}/var/lib/thalamus-router{{- end -}}
{{- end -}}
{{- end -}}

{{/* The gateway's configuration with what this chart settles laid over it. */}}
{{- define "thalamus.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $server := $config.server | default dict -}}
{{- $_ := set $server "host" "0.0.0.0" -}}
{{- $_ := set $server "port" 8080 -}}
{{- $_ := set $server "notice_s" .Values.noticeSeconds -}}
{{- $_ := set $server "drain_s" (include "thalamus.drainSeconds" . | int) -}}
{{- $_ := set $server "watch_config" (eq .Values.reload "live") -}}
{{- $_ := set $config "server" $server -}}
{{- if .Values.admin.secret -}}
{{- $_ := set $config "admin" (dict "host" "0.0.0.0" "port" .Values.admin.port "key" "env:THALAMUS_ADMIN_KEY") -}}
{{- end -}}
{{- if not $config.models -}}
{{- $_ := unset $config "models" -}}
{{- end -}}
{{- $router := $config.router | default dict -}}
{{- with include "thalamus.routerFolder" . -}}
{{- $_ := set $router "artifact" . -}}
{{- end -}}
{{- with .Values.router.sha256 -}}
{{- $_ := set $router "sha256" . -}}
{{- end -}}
{{- if $router -}}
{{- $_ := set $config "router" $router -}}
{{- end -}}
{{- if .Values.redis.enabled -}}
{{- $state := $config.state | default dict -}}
{{- $_ := set $state "url" (printf "redis://%s-redis:6379/0" (include "thalamus.fullname" .)) -}}
{{- if .Values.redis.password.secret -}}
{{- $_ := set $state "password" "env:REDIS_PASSWORD" -}}
{{- end -}}
{{- $_ := set $config "state" $state -}}
{{- end -}}
{{- $auth := $config.auth | default dict -}}
{{- if and (eq ($auth.mode | default "open") "keys") (not $auth.keys) -}}
{{- $_ := set $auth "keys" "/var/lib/thalamus/keys.db" -}}
{{- $_ := set $config "auth" $auth -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* What a restart alone brings into force; a change of it rolls the pods even under reload: live. */}}
{{- define "thalamus.checksum" -}}
{{- $config := include "thalamus.config" . -}}
{{- if eq .Values.reload "restart" -}}
{{- $config | sha256sum -}}
{{- else -}}
{{- $sections := fromYaml $config -}}
{{- dict "server" $sections.server "admin" ($sections.admin | default dict) | toJson | sha256sum -}}
{{- end -}}
{{- end -}}

{{/* What no schema can say: values that are right by themselves and wrong together. */}}
{{- define "thalamus.check" -}}
{{- $state := .Values.config.state | default dict -}}
{{- $auth := .Values.config.auth | default dict -}}
{{- $shared := or .Values.redis.enabled (not (eq ($state.url | default "memory://") "memory://")) -}}
{{- $several := or .Values.autoscaling.enabled .Values.keda.enabled (gt (int .Values.replicas) 1) -}}
{{- if and (eq ($auth.mode | default "open") "keys") $several (not $shared) -}}
{{- fail "config.auth.mode is keys and there is more than one pod, each of which would count by itself: set redis.enabled or config.state.url, or replicas to 1" -}}
{{- end -}}
{{- if and .Values.redis.enabled $state.url -}}
{{- fail "redis.enabled brings a Redis and config.state.url names another: keep one of them" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled -}}
{{- fail "autoscaling and keda would both set the number of pods: enable one of them" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (not .Values.autoscaling.cpuPercent) (not .Values.autoscaling.inflight) -}}
{{- fail "autoscaling needs cpuPercent, inflight or both" -}}
{{- end -}}
{{- if and .Values.keda.enabled (not .Values.keda.serverAddress) -}}
{{- fail "keda.serverAddress must be the URL of the Prometheus that scrapes the gateway" -}}
{{- end -}}
{{- with .Values.router -}}
{{- if gt (len (compact (list .persistentVolumeClaim .image.reference .copyFrom.image))) 1 -}}
{{- fail "router: name one of persistentVolumeClaim, image.reference and copyFrom.image" -}}
{{- end -}}
{{- end -}}
{{- $set := keys .Values.secretEnv -}}
{{- range .Values.extraEnv -}}{{- $set = append $set .name -}}{{- end -}}
{{- if not .Values.extraEnvFrom -}}
{{- range regexFindAll "\\benv:[A-Za-z_][A-Za-z0-9_]*" (toJson .Values.config) -1 -}}
{{- $name := trimPrefix "env:" . -}}
{{- if not (has $name $set) -}}
{{- fail (printf "config names env:%s, which neither secretEnv nor extraEnv sets" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
