# Turns replies of the model into objects and errors of a command.

# Write objects of a reply to the pipeline and its errors to the error stream.
function Write-HvReply($Cmdlet, [string] $Command, [hashtable] $Reply, $Target) {
    if ($Reply.ContainsKey('error')) {
        Write-HvRefusal $Cmdlet $Command $Reply['error'] $Target
        return
    }
    $rows = $Reply['result']
    if ($rows -is [hashtable]) {
        foreach ($refused in $rows['refused']) {
            Write-HvRefusal $Cmdlet $Command $refused $refused['target']
        }
        $rows = $rows['objects']
    }
    foreach ($row in $rows) {
        $Cmdlet.WriteObject((New-HvObject $row))
    }
}

# Write a VirtualizationException, which is non-terminating unless a fault says otherwise. PowerShell appends the command's name to the FullyQualifiedErrorId.
function Write-HvRefusal($Cmdlet, [string] $Command, [hashtable] $Refusal, $Target) {
    $exception = [Microsoft.HyperV.PowerShell.VirtualizationException]::new([string] $Refusal['message'])
    $category = [Management.Automation.ErrorCategory] $Refusal['category']
    $exception.ErrorIdentifier = $Refusal['identifier']
    $exception.ErrorCategory = $category
    $exception.TargetObject = $Target
    $space = $(if ($Command -ceq 'GetVHD') { 'Microsoft.Vhd.PowerShell.Cmdlets' } else { 'Microsoft.HyperV.PowerShell.Commands' })
    $id = '{0},{1}.{2}' -f $Refusal['identifier'], $space, $Command
    $record = [Management.Automation.ErrorRecord]::new($exception, $id, $category, $Target)
    if ($Refusal['terminating']) {
        $Cmdlet.ThrowTerminatingError($record)
    }
    $Cmdlet.WriteError($record)
}

# Commands work on this host only: a second hop is not simulated.
function Assert-HvLocal($Cmdlet, [string] $Command, [hashtable] $Bound) {
    foreach ($name in 'CimSession', 'Credential', 'ComputerName') {
        if ($Bound.ContainsKey($name) -and ($name -cne 'ComputerName' -or
                @($Bound[$name] | Where-Object { $_ -notin 'localhost', '.', $env:HVPS_SIM_NODE }).Count)) {
            $refusal = @{ message = "$name is not simulated"; identifier = 'AccessDenied'; category = 'PermissionDenied' }
            Write-HvRefusal $Cmdlet $Command $refusal $null
            return $false
        }
    }
    $true
}

# Ids of the VMs that -VM or -VMName name; errors for names that do not exist.
function Get-HvTarget($Cmdlet, [string] $Command, [hashtable] $Bound) {
    if (-not (Assert-HvLocal $Cmdlet $Command $Bound)) {
        return
    }
    if ($Bound.ContainsKey('VM')) {
        foreach ($vm in $Bound['VM']) {
            [string] $vm.Id
        }
        return
    }
    $reply = Invoke-Model 'vm.machines' @{ names = [string[]] $Bound['VMName'] }
    foreach ($refused in $reply['result']['refused']) {
        Write-HvRefusal $Cmdlet $Command $refused $refused['target']
    }
    foreach ($row in $reply['result']['objects']) {
        $row['Id']
    }
}
